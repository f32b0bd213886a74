"""PyTorch layers with public calls only: FLARE, softmax attention, and the two MLP parts of a FLARE block."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.torch_flare import ResidualMLP
from kernels.residual_mlp.shapes import INNER_LAYERS


def _residual_mlp(channels: int) -> ResidualMLP:
    return ResidualMLP(channels, channels, channels, INNER_LAYERS, True, True)


class FlareLayer(nn.Module):
    """Key and value MLPs, attention to the latents and back, output projection; scale 1."""

    def __init__(self, channels: int, heads: int, latents: int) -> None:
        super().__init__()
        self.heads, self.width = heads, channels // heads
        self.latents = nn.Parameter(0.1 * torch.randn(channels, latents))
        self.k_proj, self.v_proj = _residual_mlp(channels), _residual_mlp(channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, N, C] to [B, N, C]."""
        query = self.latents.reshape(1, self.heads, -1, self.width).expand(len(x), -1, -1, -1)
        key, value = (
            part.unflatten(-1, (self.heads, self.width)).transpose(1, 2) for part in (self.k_proj(x), self.v_proj(x))
        )
        latents = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        mixed = F.scaled_dot_product_attention(key, query, latents, scale=1.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class SoftmaxLayer(nn.Module):
    """Softmax self-attention with one projection for queries, keys and values; scale 1/√D."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width = heads, channels // heads
        self.qkv_proj = nn.Linear(channels, 3 * channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, N, C] to [B, N, C]."""
        query, key, value = self.qkv_proj(x).unflatten(-1, (3, self.heads, self.width)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class Branches(nn.Module):
    """Norm, then key and value MLPs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.k_proj, self.v_proj = _residual_mlp(channels), _residual_mlp(channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map [N, C] to two arrays [N, C]."""
        normed = self.norm(x)
        return self.k_proj(normed), self.v_proj(normed)


class BlockRest(nn.Module):
    """Output projection, residual, norm, feed-forward MLP, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_proj, self.norm = nn.Linear(channels, channels), nn.LayerNorm(channels)
        self.mlp = _residual_mlp(channels)

    def forward(self, mixed: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map the merged heads and the residual stream, both [N, C], to [N, C]."""
        x = skip + self.out_proj(mixed)
        return x + self.mlp(self.norm(x))
