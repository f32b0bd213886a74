"""Performer: linear attention with random positive features (FAVOR+, arXiv 2009.14794)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.layers.dropout import Key, dropout, split_key
from flare_jax.layers.linear import Linear
from flare_jax.layers.maximum import maximum
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.block import PreNormBlock, feed_forward
from flare_jax.mixers.heads import check_attention_heads, merge_heads, parts_then_heads
from flare_jax.mixers.linear_attention import linear_attention
from flare_jax.option_groups import TransformerBlockConfig
from flare_jax.options import MAX_LATENTS, option
from flare_jax.params import Params, merge

FEATURE_EPSILON = 1e-6
ESTIMATORS = ("reference", "favor")


@dataclass(frozen=True, kw_only=True)
class PerformerConfig(TransformerBlockConfig):
    """Options of performer attention and the block around it."""

    nb_features: int = option(256, help="random features of each head", minimum=1, maximum=MAX_LATENTS)
    redraw_interval: int = option(0, help="training steps between new random features; 0: never", minimum=0)
    normalize_inputs: bool = option(True, help="divide queries and keys by the fourth root of the head width")
    estimator: str = option(
        "favor", help="'favor' approximates softmax attention, 'reference' is the original's", choices=ESTIMATORS
    )


class PerformerAttention(nnx.Module):
    """Token mixer of cost O(N·M): linear attention with `nb_features` = M random positive features per head.

    Features of a vector x are `(exp(w·x̂ − ‖x̂‖²/2 − peak) + 1e-6)/√M`, `x̂ = x/D^¼` if `normalize_inputs`. Two
    estimators: 'reference' takes rows w of unit norm and subtracts the peak of each token, also from keys, as the
    original does; it does not approximate softmax attention. 'favor' takes orthogonal rows of norm √D and one peak
    for all keys of a head: the regularised softmax kernel of the paper, which approximates softmax attention with
    scale 1/√D the better the wider the heads are.

    The rows are the parameter `proj_matrix` [H, M, D]: saved with the model, without a gradient, and to be excluded
    from weight decay. With `redraw_interval` > 0, training replaces them by `redraw_features`. Dropout (`attn_drop`)
    acts on the mixed values. The output columns of `qkv_proj` are q, k and v, each of width C with heads inside.
    """

    def __init__(
        self,
        channel_dim: int,
        config: PerformerConfig,
        *,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.num_heads, self.head_dim = check_attention_heads(channel_dim, config.num_heads, rope)
        self.nb_features = config.nb_features
        self.redraw_interval = config.redraw_interval
        self.normalize_inputs = config.normalize_inputs
        self.estimator = config.estimator
        self.rope = rope
        self.attn_drop, self.proj_drop = config.attn_drop, config.proj_drop
        self.qkv_proj = Linear(channel_dim, 3 * channel_dim, dtype=dtype, rngs=rngs)
        self.proj_matrix = nnx.Param(self.draw(rngs.params()))
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def draw(self, key: Key) -> Float[Array, "H M D"]:
        """Return new random rows for all heads."""
        shape = (self.num_heads, self.nb_features, self.head_dim)
        if self.estimator == "favor":
            return _orthogonal_rows(key, shape)
        rows = jax.random.normal(key, shape)
        return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; what padded points receive is meaningless."""
        attn_key, proj_key = split_key(key, 2)
        q, k, v = parts_then_heads(self.qkv_proj(x), self.num_heads)
        if self.rope is not None:
            q, k = self.rope(q), self.rope(k)
        y = linear_attention(self._query_features(q), self._key_features(k, mask), v, mask)
        y = dropout(merge_heads(y), self.attn_drop, attn_key)
        return dropout(self.out_proj(y), self.proj_drop, proj_key)

    def _query_features(self, q: Float[Array, "B N H D"]) -> Float[Array, "B N H M"]:
        exponents = self._exponents(q)
        return self._features(exponents - maximum(exponents, -1))

    def _key_features(self, k: Float[Array, "B N H D"], mask: Bool[Array, "B N"] | None) -> Float[Array, "B N H M"]:
        exponents = self._exponents(k)
        if self.estimator == "reference":
            # The gradient takes part: the peaks of tokens differ, so that they rescale keys against each other.
            return self._features(exponents - maximum(exponents, -1))
        if mask is not None:
            # Padded keys are dropped from the sums afterwards; here they must only not set the peak.
            exponents = jnp.where(mask[:, :, None, None], exponents, jnp.finfo(jnp.float32).min)
        return self._features(exponents - maximum(maximum(exponents, -1), 1))

    def _exponents(self, x: Float[Array, "B N H D"]) -> Float[Array, "B N H M"]:
        x = x.astype(jnp.float32)
        if self.normalize_inputs:
            x = x * self.head_dim**-0.25
        rows = jax.lax.stop_gradient(self.proj_matrix[...])
        return jnp.einsum("bnhd,hmd->bnhm", x, rows) - jnp.square(x).sum(-1, keepdims=True) / 2

    def _features(self, exponents: Float[Array, "B N H M"]) -> Float[Array, "B N H M"]:
        return (jnp.exp(exponents) + FEATURE_EPSILON) * self.nb_features**-0.5


def _orthogonal_rows(key: Key, shape: tuple[int, int, int]) -> Float[Array, "H M D"]:
    """Return rows of norm √D: blocks of D orthogonal ones, uniformly distributed, per head."""
    heads, number, width = shape
    blocks = -(-number // width)
    gaussian = jax.random.normal(key, (heads, blocks, width, width))
    q, r = jnp.linalg.qr(gaussian)
    # Without these signs the decomposition would prefer some directions.
    q = q * jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return width**0.5 * q.swapaxes(-1, -2).reshape(heads, blocks * width, width)[:, :number]


def redraw_features(graphdef: nnx.GraphDef, params: Params, step: int | Int[Array, ""], key: Key) -> Params:
    """Return the parameters for training step `step` = 0, 1, ..., with new random rows where they are due.

    A model draws new rows in every step whose number counted from 1 is a multiple of its `redraw_interval`; a model
    without performer blocks, or with interval 0, keeps its parameters. To be called before the step, also inside jit.
    """
    for path, module in nnx.iter_modules(merge(graphdef, params)):
        if isinstance(module, PerformerAttention) and module.redraw_interval:
            name = ".".join(map(str, (*path, "proj_matrix")))
            key, own_key = jax.random.split(key)
            due = (step + 1) % module.redraw_interval == 0
            params = params | {name: jax.lax.cond(due, module.draw, lambda _, rows=params[name]: rows, own_key)}
    return params


class PerformerBlock(PreNormBlock):
    """Pre-norm block of Performer attention and a feed-forward part."""

    def __init__(
        self,
        channel_dim: int,
        config: PerformerConfig,
        *,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        att = PerformerAttention(channel_dim, config, rope=rope, dtype=dtype, rngs=rngs)
        mlp = feed_forward(channel_dim, config, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)
