#!/usr/bin/env bash
# Find what does not belong in a folder: the images that a model of digits finds least likely.
# Further arguments go to the training: outliers.sh --latent 20
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

vaectl train vae -o outliers.safetensors --force "$@"

python "$here/digits.py" mixed 200
python - <<'PYTHON'
from PIL import Image, ImageDraw
for name, shape in {"odd-ring": "ellipse", "odd-box": "rectangle"}.items():
    image = Image.new("L", (28, 28))
    getattr(ImageDraw.Draw(image), shape)((4, 4, 23, 23), outline=255, width=2)
    image.save(f"mixed/{name}.png")
Image.radial_gradient("L").resize((28, 28)).save("mixed/odd-glow.png")
PYTHON

vaectl evaluate -c outliers.safetensors --data mixed/ --samples 100 --per-image -o outliers.csv

# The ten least likely images, least likely first, above their reconstructions.
mapfile -t worst < <(tail -n +2 outliers.csv | head -n 10 | cut -d, -f1)
(cd mixed && cat "${worst[@]}") | vaectl encode -c outliers.safetensors | vaectl decode -c outliers.safetensors -o reconstructed.png
(cd mixed && python - "${worst[@]}" <<'PYTHON'
import sys
from PIL import Image
reconstructed = Image.open("../reconstructed.png")
both = Image.new("L", (reconstructed.width, 2 * reconstructed.height))
for index, name in enumerate(sys.argv[1:]):
    both.paste(Image.open(name), (28 * index, 0))
both.paste(reconstructed, (0, 28))
both.resize((2 * both.width, 2 * both.height), Image.Resampling.NEAREST).save("../outliers.png")
PYTHON
)
head -n 6 outliers.csv
