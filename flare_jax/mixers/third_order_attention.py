"""Third-order attention: the softmax of a token is joint over all pairs of tokens; two forms of the logits."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.layers.dropout import Key, dropout, refuse_attention_dropout, split_key
from flare_jax.layers.linear import Linear
from flare_jax.layers.maximum import maximum
from flare_jax.mixers.block import PreNormBlock, feed_forward
from flare_jax.mixers.chunks import map_over_chunks
from flare_jax.mixers.heads import check_attention_heads, heads_then_parts, merge_heads
from flare_jax.option_groups import TransformerBlockConfig
from flare_jax.options import option

METHODS = ("third_order", "strassen")
# Elements of the weights [B, H, N, N, N] that are held at once.
CHUNK_ELEMENTS = 2**24
# Of the 1e-6 that the original adds to the denominator of method 'strassen'.
LOG_EPSILON = math.log(1e-6)


@dataclass(frozen=True, kw_only=True)
class ThirdOrderConfig(TransformerBlockConfig):
    """Options of third-order attention and the block around it."""

    third_order_method: str = option("third_order", help="form of the logits", choices=METHODS)
    reference_epsilon: bool = option(False, help="the original's epsilon in method 'strassen'")
    ignore_mask: bool = option(False, help="mix padding like tokens, as the original's method 'third_order' does")

    def check_together(self) -> None:
        """Refuse what method 'third_order' does not have."""
        super().check_together()
        if self.third_order_method == "strassen":
            return
        refuse_attention_dropout(f"third_order_method {self.third_order_method!r}", self.attn_drop)
        if self.reference_epsilon:
            raise ValueError(
                f"reference_epsilon is True but third_order_method {self.third_order_method!r} has none; "
                "set reference_epsilon=False or third_order_method 'strassen'"
            )


class ThirdOrderAttention(nnx.Module):
    """Token mixer of cost O(N³·C), memory O(N²): `y_i = Σ_jl softmax_jl(L_ijl) v1_j∘v2_l` per head.

    Method 'third_order' has the logits `L_ijl = D^-½ Σ_d q_id k1_jd k2_ld`, method 'strassen' the factorised
    `L_ijl = D^-½ (a_i·b_j + b_j·c_l + c_l·a_i)`, whose three parts have the dropout rate `attn_drop` each; for the
    other method it must be 0. The output columns of `att_proj` are heads, each with its q, k1, k2, v1, v2 (or a, b, c,
    v1, v2).

    `reference_epsilon` adds 1e-6 to the denominator of method 'strassen' after shifting each part of the logits by its
    own largest value, as the original does; without it the softmax is exact. `ignore_mask` mixes padded tokens like
    real ones, as the original's method 'third_order' does.
    """

    def __init__(
        self,
        channel_dim: int,
        config: ThirdOrderConfig,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.method = config.third_order_method
        self.num_heads, _ = check_attention_heads(channel_dim, config.num_heads)
        self.attn_drop, self.proj_drop = config.attn_drop, config.proj_drop
        self.reference_epsilon = config.reference_epsilon
        self.ignore_mask = config.ignore_mask
        self.att_proj = Linear(channel_dim, 5 * channel_dim, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real tokens; a padded one receives the bias of `out_proj`."""
        att_key, proj_key = split_key(key, 2)
        mask = None if self.ignore_mask else mask
        parts = heads_then_parts(self.att_proj(x), self.num_heads, parts=5)
        if mask is not None:
            parts = [jnp.where(mask[:, :, None, None], part, 0) for part in parts]
        if self.method == "third_order":
            y = third_order_attention(*parts, mask=mask)
        else:
            y = strassen_attention(
                *parts, mask=mask, drop_rate=self.attn_drop, key=att_key, reference_epsilon=self.reference_epsilon
            )
        if mask is not None:
            y = jnp.where(mask[:, :, None, None], y, 0)
        return dropout(self.out_proj(merge_heads(y)), self.proj_drop, proj_key)


class ThirdOrderBlock(PreNormBlock):
    """Pre-norm block of third-order attention and a feed-forward part."""

    def __init__(self, channel_dim: int, config: ThirdOrderConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        att = ThirdOrderAttention(channel_dim, config, dtype=dtype, rngs=rngs)
        mlp = feed_forward(channel_dim, config, dtype=dtype, rngs=rngs)
        super().__init__(channel_dim, att=att, mlp=mlp, rmsnorm=config.rmsnorm, dtype=dtype)


def third_order_attention(
    q: Float[Array, "B N H D"],
    k1: Float[Array, "B N H D"],
    k2: Float[Array, "B N H D"],
    v1: Float[Array, "B N H D"],
    v2: Float[Array, "B N H D"],
    *,
    mask: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B N H D"]:
    """Return `Σ_jl P_ijl v1_j∘v2_l` with `P_i = softmax_jl(D^-½ Σ_d q_id k1_jd k2_ld)` over pairs of real tokens.

    A sample without a real token gives zeros.
    """
    scale = q.shape[-1] ** -0.5
    pairs = None if mask is None else _pairs(mask)[:, None, None]

    def attend(q: Array) -> Array:
        logits = scale * _dot("bnjhd,blhd->bnhjl", q[:, :, None] * k1[:, None], k2)
        return _read_pairs(_keep(logits, pairs), v1, v2)

    return map_over_chunks(attend, (q,), _count_chunks(q))


def strassen_attention(
    a: Float[Array, "B N H D"],
    b: Float[Array, "B N H D"],
    c: Float[Array, "B N H D"],
    v1: Float[Array, "B N H D"],
    v2: Float[Array, "B N H D"],
    *,
    mask: Bool[Array, "B N"] | None = None,
    drop_rate: float = 0.0,
    key: Key | None = None,
    reference_epsilon: bool = False,
) -> Float[Array, "B N H D"]:
    """Return `Σ_jl P_ijl v1_j∘v2_l`, `P_i = softmax_jl(D^-½ (a_i·b_j + b_j·c_l + c_l·a_i))` over pairs of real tokens.

    With a random `key`, a share `drop_rate` of the entries of each of the three parts is dropped together with all
    weights that they enter. A sample without a real token gives zeros; `ThirdOrderAttention` says what
    `reference_epsilon` does.
    """
    scale = a.shape[-1] ** -0.5
    real = None if mask is None else mask[:, None, None]
    ab = _keep(scale * _dot("bnhd,bjhd->bnhj", a, b), real)
    bc = _keep(scale * _dot("bjhd,blhd->bhjl", b, c), None if mask is None else _pairs(mask)[:, None])
    ca = _keep(scale * _dot("blhd,bnhd->bnhl", c, a), real)
    if reference_epsilon:
        log_epsilon = LOG_EPSILON + maximum(ab, -1) + maximum(maximum(bc, -1), -2)[:, None, :, 0] + maximum(ca, -1)
    else:
        log_epsilon = jnp.full((*ab.shape[:-1], 1), -jnp.inf)
    keys = split_key(key, 3)
    ab, bc, ca = (_drop(part, drop_rate, part_key) for part, part_key in zip((ab, bc, ca), keys, strict=True))

    def attend(ab: Array, ca: Array, log_epsilon: Array) -> Array:
        logits = ab[..., :, None] + bc[:, None] + ca[..., None, :]
        return _read_pairs(logits, v1, v2, log_epsilon)

    return map_over_chunks(attend, (ab, ca, log_epsilon[..., 0]), _count_chunks(a))


def _read_pairs(logits: Array, v1: Array, v2: Array, log_epsilon: Array | None = None) -> Array:
    """Return `Σ_jl softmax_jl(L)_jl v1_j∘v2_l` of some tokens, L [B, n, H, N, N], zeros where no pair is left.

    `log_epsilon` [B, n, H] is the logarithm of what is added to the denominator Σ_jl exp(L_jl).
    """
    peak = logits.max((-2, -1)) if log_epsilon is None else jnp.maximum(logits.max((-2, -1)), log_epsilon)
    peak = jax.lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0))
    weights = jnp.exp(logits - peak[..., None, None])
    total = weights.sum((-2, -1))
    if log_epsilon is not None:
        total += jnp.exp(log_epsilon - peak)
    inner = _dot("bnhjl,blhd->bnhjd", weights.astype(v2.dtype), v2)
    y = jnp.einsum("bnhjd,bjhd->bnhd", inner, v1.astype(jnp.float32))
    return (y / jnp.where(total == 0, 1, total)[..., None]).astype(v1.dtype)


def _dot(subscripts: str, left: Array, right: Array) -> Array:
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


def _pairs(mask: Array) -> Array:
    """Return which pairs of tokens are real, [B, N, N]."""
    return mask[:, :, None] & mask[:, None, :]


def _keep(logits: Array, kept: Array | None) -> Array:
    """Return the logits with −inf, the weight zero, where `kept` is False."""
    return logits if kept is None else jnp.where(kept, logits, -jnp.inf)


def _drop(logits: Array, rate: float, key: Key | None) -> Array:
    """Drop weights; those that are kept need no factor, as it would cancel in the softmax."""
    return logits if key is None or rate == 0 else _keep(logits, jax.random.bernoulli(key, 1 - rate, logits.shape))


def _count_chunks(x: Array) -> int:
    batch, points, heads, _ = x.shape
    return -(-batch * heads * points**3 // CHUNK_ELEMENTS)
