#!/usr/bin/env bash
# Latent arithmetic in a pipe: a direction found with a few lines of NumPy makes digits thinner and bolder.
# Further arguments go to the training: arithmetic.sh --latent 20
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

vaectl train vae -o arithmetic.safetensors --force "$@"
export VAECTL_CHECKPOINT=arithmetic.safetensors

python "$here/digits.py" digits 1000
vaectl encode digits/ -o z.npy

# Bold minus thin: the mean latent of the tenth of the digits with the most ink, minus that of the tenth with the least.
cat > add_bold.py <<'PYTHON'
import sys
from io import BytesIO
import numpy as np
from PIL import Image

z = np.load(BytesIO(sys.stdin.buffer.read()))
ink = np.array([np.asarray(Image.open(f"digits/{index:04d}.png")).mean() for index in range(len(z))])
order = np.argsort(ink)
bold = z[order[-100:]].mean(0) - z[order[:100]].mean(0)
strengths = np.array([-0.6, -0.3, 0, 0.3, 0.6])
changed = z[:10] + strengths[:, None, None] * bold  # (strengths, digits, D)
result = BytesIO()
np.save(result, changed.reshape(-1, z.shape[1]))
sys.stdout.buffer.write(result.getvalue())
PYTHON

# Thinnest in the top row, boldest in the bottom row; the middle row has the reconstructions.
python add_bold.py < z.npy | vaectl decode --columns 10 --scale 2 -o arithmetic.png
