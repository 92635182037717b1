#!/usr/bin/env bash
# Remove a watermark from digits. Training shows it at every position, size and opacity.
# Further arguments go to the training: watermark.sh --epochs 30
set -euo pipefail

# A logo with a transparent background; use your own PNG instead.
python - <<'PYTHON'
from PIL import Image, ImageDraw
logo = Image.new("RGBA", (96, 64), (255, 255, 255, 0))
draw = ImageDraw.Draw(logo)
draw.ellipse((4, 4, 60, 60), outline=(255, 255, 255, 255), width=9)
draw.line((4, 60, 92, 4), fill=(255, 255, 255, 255), width=9)
logo.save("logo.png")
PYTHON

vaectl train dae --corrupt watermark:logo.png -o unmark.safetensors --force "$@"

vaectl denoise mnist:{0..15} -c unmark.safetensors --corrupt watermark:logo.png --compare --scale 2 -o watermark.png
