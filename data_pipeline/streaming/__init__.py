"""Data sets larger than memory: a cache of float32 arrays on disk, and reading it ahead of the training."""
