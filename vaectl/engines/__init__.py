"""Two engines over the same layer rows: `numpy` starts at once, `torch` trains and runs on GPUs."""
