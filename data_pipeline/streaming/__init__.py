"""Data sets larger than memory: a cache of their arrays on disk, and reading it ahead of the training."""
