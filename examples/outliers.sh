#!/usr/bin/env bash
# Finds what does not belong in a folder: the pictures that a model of digits finds least likely.
# What you add to the line goes to the training: outliers.sh --latent 20
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

vaectl train vae -o outliers.safetensors --force "$@"

python "$here/digits.py" mixed 200
python - <<'PYTHON'
from PIL import Image, ImageDraw
for name, shape in {"odd-ring": "ellipse", "odd-box": "rectangle"}.items():
    picture = Image.new("L", (28, 28))
    getattr(ImageDraw.Draw(picture), shape)((4, 4, 23, 23), outline=255, width=2)
    picture.save(f"mixed/{name}.png")
Image.radial_gradient("L").resize((28, 28)).save("mixed/odd-glow.png")
PYTHON

vaectl evaluate -c outliers.safetensors --data mixed/ --samples 100 --per-image -o outliers.csv

# The ten least likely, the least of all first, as they are above and as the model sees them below.
mapfile -t worst < <(tail -n +2 outliers.csv | head -n 10 | cut -d, -f1)
(cd mixed && cat "${worst[@]}") | vaectl encode -c outliers.safetensors | vaectl decode -c outliers.safetensors -o seen.png
(cd mixed && python - "${worst[@]}" <<'PYTHON'
import sys
from PIL import Image
seen = Image.open("../seen.png")
both = Image.new("L", (seen.width, 2 * seen.height))
for index, name in enumerate(sys.argv[1:]):
    both.paste(Image.open(name), (28 * index, 0))
both.paste(seen, (0, 28))
both.resize((2 * both.width, 2 * both.height), Image.Resampling.NEAREST).save("../outliers.png")
PYTHON
)
head -n 6 outliers.csv
