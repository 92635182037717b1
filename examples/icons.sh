#!/usr/bin/env bash
# From a folder of icons to a table of latents, and interpolation from one icon to the next.
# Further arguments go to the training: icons.sh --latent 32
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# Use your own folder instead; its images may have any size.
python "$here/icons.py" icons 2000

vaectl train vae --data icons/ --latent 16 -o icons.safetensors --force "$@"

# One line per image: its name, then its latent, for a spreadsheet or a few lines of pandas.
vaectl encode icons/ -c icons.safetensors -o icons.csv
head -n 3 icons.csv

vaectl interpolate icons/icon-000{1,2,3,4}.png -c icons.safetensors --loop --steps 6 -o icons.png
