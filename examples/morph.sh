#!/usr/bin/env bash
# A GIF in which digits turn into one another and back to the first, for ever.
# What you add to the line goes to the training: morph.sh --latent 16
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

vaectl train vae -o morph.safetensors --force "$@"

python "$here/digits.py" digits 8
vaectl interpolate digits/000[0-7].png -c morph.safetensors --method slerp --loop --steps 12 --scale 4 --fps 15 -o morph.gif
