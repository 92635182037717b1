"""The shape of an array, importable without NumPy."""

Shape = tuple[int, ...]
