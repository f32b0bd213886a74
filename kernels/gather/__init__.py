"""Latents that read points by one softmax over the points; see README.md for the maths."""

from kernels.gather.api import gather

__all__ = ["gather"]
