#!/usr/bin/env bash
# Denoise photos at full size: photo_denoise.sh photos/ another.jpg
# Trains on the folder, for which a few photos are enough, and shows another photo: clean, noisy and denoised.
# Further arguments go to the training: photo_denoise.sh photos/ another.jpg --epochs 50
set -euo pipefail
photos=$1 another=$2

vaectl train dae --net unet --data "$photos" --corrupt gaussian:0.1 -o photo-noise.safetensors --force "${@:3}"

# For a folder of noisy photos: vaectl denoise noisy/ -c photo-noise.safetensors -o clean/
vaectl denoise "$another" -c photo-noise.safetensors --corrupt gaussian:0.1 --compare -o photo_denoise.jpg
