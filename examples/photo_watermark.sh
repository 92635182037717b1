#!/usr/bin/env bash
# Remove a watermark from photos at full size: photo_watermark.sh photos/ another.jpg
# Trains on the folder, and shows another photo: clean, with the watermark, and restored.
# Further arguments go to the training: photo_watermark.sh photos/ another.jpg --epochs 50
set -euo pipefail
photos=$1 another=$2

# A logo with a transparent background; use your own PNG instead.
python - <<'PYTHON'
from PIL import Image, ImageDraw
logo = Image.new("RGBA", (160, 64), (255, 255, 255, 0))
draw = ImageDraw.Draw(logo)
draw.rounded_rectangle((3, 3, 156, 60), 14, outline=(255, 255, 255, 255), width=5)
draw.ellipse((16, 14, 52, 50), fill=(255, 255, 255, 255))
draw.line((64, 46, 100, 18, 142, 46), fill=(255, 255, 255, 255), width=6)
logo.save("logo.png")
PYTHON

vaectl train dae --net unet --data "$photos" --corrupt watermark:logo.png -o photo-mark.safetensors --force "${@:3}"

vaectl denoise "$another" -c photo-mark.safetensors --corrupt watermark:logo.png --compare -o photo_watermark.jpg
