#!/usr/bin/env bash
# Takes noise off digits: clean above, spoiled in the middle, restored below.
# What you add to the line goes to the training: denoise.sh --epochs 30
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

vaectl train dae --corrupt gaussian:0.4 --corrupt salt-pepper:0.1 -o denoiser.safetensors --force "$@"

python "$here/digits.py" digits 16
vaectl denoise digits/ -c denoiser.safetensors --corrupt gaussian:0.4 --corrupt salt-pepper:0.1 --compare --scale 2 -o denoise.png
