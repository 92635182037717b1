#!/usr/bin/env bash
# An endless animation of digits that morph into one another.
# Further arguments go to the training: morph.sh --latent 16
set -euo pipefail

vaectl train vae -o morph.safetensors --force "$@"

vaectl interpolate mnist:{0..7} -c morph.safetensors --method slerp --loop --steps 12 --scale 4 --fps 15 -o morph.gif
