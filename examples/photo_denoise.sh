#!/usr/bin/env bash
# Takes noise off photographs at their full size: photo_denoise.sh photos/ another.jpg
# Learns from the folder, a few photographs are enough, and shows another one: clean, noisy and mended.
# What you add to the line goes to the training: photo_denoise.sh photos/ another.jpg --epochs 50
set -euo pipefail
photos=$1 another=$2

vaectl train dae --net unet --data "$photos" --corrupt gaussian:0.1 -o photo-noise.safetensors --force "${@:3}"

# A whole folder of noisy photographs would be: vaectl denoise noisy/ -c photo-noise.safetensors -o mended/
vaectl denoise "$another" -c photo-noise.safetensors --corrupt gaussian:0.1 --compare -o photo_denoise.jpg
