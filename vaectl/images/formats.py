"""The image formats that are read and written."""

READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
# What phones write and vaectl does not read, by the bytes after "ftyp".
HEIF_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF"}
MAX_IMAGE_BYTES = 1 << 29
MAX_PIXELS = 89_478_485  # where Pillow itself warns: 256 MB at 24 bits
