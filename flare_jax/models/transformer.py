"""Transformers on the points of a mesh, with softmax, compressed or linear attention."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.linear_attention import LinearAttentionBlock, LinearAttentionConfig
from flare_jax.mixers.linformer import LinformerBlock, LinformerConfig
from flare_jax.mixers.self_attention import SelfAttentionBlock, SelfAttentionConfig
from flare_jax.models.stack import ProjectedStack, ProjectedStackConfig


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(SelfAttentionConfig, ProjectedStackConfig):
    """Options of the transformer with softmax attention among all points, O(N²) (arXiv 1706.03762)."""

    block: ClassVar[type[PreNormBlock]] = SelfAttentionBlock


@dataclass(frozen=True, kw_only=True)
class LinformerModelConfig(LinformerConfig, ProjectedStackConfig):
    """Options of Linformer for up to `seq_len` points in a fixed order, O(N·k) (arXiv 2006.04768)."""

    block: ClassVar[type[PreNormBlock]] = LinformerBlock


@dataclass(frozen=True, kw_only=True)
class LinearModelConfig(LinearAttentionConfig, ProjectedStackConfig):
    """Options of the transformer with linear attention, O(N·D²) (arXiv 2006.16236).

    With a feature map of both signs, such as 'identity', the denominator can come near zero, as in the original.
    """

    block: ClassVar[type[PreNormBlock]] = LinearAttentionBlock


class Transformer(ProjectedStack):
    """Transformer, whose attention is that of its options.

    `act` 'gelu' or None is the exact GELU inside of the blocks and its tanh form in the projections, unless
    `in_out_proj_act` names another. `dtype` is the compute dtype. Raises ValueError if `num_heads` does not divide
    `channel_dim`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        config: TransformerConfig | LinformerModelConfig | LinearModelConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        width = config.channel_dim
        blocks = (config.block(width, config, dtype=dtype, rngs=rngs) for _ in range(config.num_blocks))
        super().__init__(in_dim, out_dim, config, blocks=blocks, dtype=dtype, rngs=rngs)
