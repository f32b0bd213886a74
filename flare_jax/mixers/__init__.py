"""Token mixers [B, N, C] → [B, N, C], shared by the PDE and the sequence models."""

from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.mixers.self_attention import SelfAttention, SelfAttentionBlock

__all__ = ["FlareAttention", "SelfAttention", "SelfAttentionBlock", "softmax_attention"]
