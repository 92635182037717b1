#!/usr/bin/env bash
# Denoise digits: clean in the top row, corrupted in the middle, denoised in the bottom row.
# Further arguments go to the training: denoise.sh --epochs 30
set -euo pipefail

vaectl train dae --corrupt gaussian:0.4 --corrupt salt-pepper:0.1 -o denoiser.safetensors --force "$@"

vaectl denoise mnist:{0..15} -c denoiser.safetensors --corrupt gaussian:0.4 --corrupt salt-pepper:0.1 \
    --compare --scale 2 -o denoise.png
