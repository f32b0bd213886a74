"""Splitting channels into heads and back; channel c = h·D + d belongs to head h everywhere."""

from jaxtyping import Array, Float

from flare_jax.checks import check_head_dim
from flare_jax.layers.rotary import RotaryEmbedding, check_even_heads


def split_heads(x: Float[Array, "B N C"], num_heads: int) -> Float[Array, "B N H D"]:
    """Return x with its channels split into heads."""
    check_batch(x)
    return x.reshape(*x.shape[:2], num_heads, -1)


def merge_heads(x: Float[Array, "B N H D"]) -> Float[Array, "B N C"]:
    """Return x with its heads merged into channels."""
    return x.reshape(*x.shape[:2], -1)


def parts_then_heads(x: Float[Array, "B N C"], num_heads: int, parts: int = 3) -> tuple[Float[Array, "B N H D"], ...]:
    """Split the output of a fused projection whose columns are whole parts (all of q, all of k, ...)."""
    check_batch(x)
    x = x.reshape(*x.shape[:2], parts, num_heads, -1)
    return tuple(x[:, :, part] for part in range(parts))


def heads_then_parts(x: Float[Array, "B N C"], num_heads: int, parts: int = 3) -> tuple[Float[Array, "B N H D"], ...]:
    """Split the output of a fused projection whose columns are heads, each with its q, k, ... (linformer, linear)."""
    check_batch(x)
    x = x.reshape(*x.shape[:2], num_heads, parts, -1)
    return tuple(x[:, :, :, part] for part in range(parts))


def check_batch(x: Array) -> None:
    """Raise ValueError unless the input of a mixer, or a projection of it, is a non-empty array [B, N, C]."""
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(
            f"x, or a projection of it, has shape {x.shape} but must be a non-empty array [B, N, C]; "
            "pass a batch, x[None] of one sample"
        )


def check_attention_heads(
    channel_dim: int, num_heads: int | None, rope: RotaryEmbedding | None = None
) -> tuple[int, int]:
    """Return (H, D), None standing for heads of width 16; raise if H does not divide C, or with `rope` if D is odd."""
    num_heads = channel_dim // 16 if num_heads is None else num_heads
    head_dim = check_head_dim(channel_dim, num_heads)
    if rope is not None:
        check_even_heads(head_dim)
    return num_heads, head_dim
