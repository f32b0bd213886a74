"""Conversion of parameters from and to the PyTorch original."""

from flare_jax.convert.mappings import TORCH_MAPPINGS, TorchMapping
from flare_jax.convert.state_dict import from_torch, strip_prefixes, to_torch

__all__ = ["TORCH_MAPPINGS", "TorchMapping", "from_torch", "strip_prefixes", "to_torch"]
