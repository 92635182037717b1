"""One verb a file: read, transform, write."""
