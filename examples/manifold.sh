#!/usr/bin/env bash
# The plane of a two-dimensional latent space, as in figure 4 of Kingma & Welling.
# Further arguments go to the training: manifold.sh --epochs 40
set -euo pipefail

vaectl train vae --latent 2 -o plane.safetensors --force "$@"

# Steps of equal probability under the prior, so every region gets its share of the image.
vaectl grid -c plane.safetensors --spacing quantile --steps 16 -o manifold.png
