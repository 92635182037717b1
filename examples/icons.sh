#!/usr/bin/env bash
# A folder of icons, or of faces, to latents in a table, and a walk from one picture to the next.
# What you add to the line goes to the training: icons.sh --latent 32
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# Bring your own folder instead; it may hold pictures of any sizes.
python "$here/icons.py" icons 2000

vaectl train vae --data icons/ --latent 16 -o icons.safetensors --force "$@"

# A row a picture: its name, then its latents, for a spreadsheet or a few lines of pandas.
vaectl encode icons/ -c icons.safetensors -o icons.csv
head -n 3 icons.csv

vaectl interpolate icons/icon-000{1,2,3,4}.png -c icons.safetensors --loop --steps 6 -o icons.png
