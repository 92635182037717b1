"""Write the first images of the MNIST test split as PNG files: python digits.py FOLDER COUNT."""

import sys
from pathlib import Path

from PIL import Image

from vaectl.datasets.load import load_dataset

folder, count = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(exist_ok=True)
for index, digit in enumerate(load_dataset("mnist").test[:count]):
    Image.fromarray(digit[..., 0]).save(folder / f"{index:04d}.png")
