#!/usr/bin/env bash
# Takes a watermark off digits: the model sees it at every place, size and strength, and learns what was below.
# What you add to the line goes to the training: watermark.sh --epochs 30
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# A logo with a transparent ground; bring your own PNG instead.
python - <<'PYTHON'
from PIL import Image, ImageDraw
logo = Image.new("RGBA", (96, 64), (255, 255, 255, 0))
draw = ImageDraw.Draw(logo)
draw.ellipse((4, 4, 60, 60), outline=(255, 255, 255, 255), width=9)
draw.line((4, 60, 92, 4), fill=(255, 255, 255, 255), width=9)
logo.save("logo.png")
PYTHON

vaectl train dae --corrupt watermark:logo.png -o unmark.safetensors --force "$@"

python "$here/digits.py" digits 16
vaectl denoise digits/ -c unmark.safetensors --corrupt watermark:logo.png --compare --scale 2 -o watermark.png
