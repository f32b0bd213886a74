"""What follows the blocks of a sequence model: pooling over the tokens and the classifier."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_integer
from flare_jax.layers.activations import gelu_erf
from flare_jax.layers.dropout import Key, check_rate, dropout
from flare_jax.layers.linear import Linear
from flare_jax.layers.maximum import maximum
from flare_jax.layers.norms import make_norm


class ClassifierHead(nnx.Module):
    """Dropout, a norm if `use_norm`, then the layer `fc`, or with `mlp` the layers `fc1`, GELU (exact) and `fc2`."""

    def __init__(
        self,
        channel_dim: int,
        num_labels: int,
        *,
        use_norm: bool,
        mlp: bool = False,
        cls_drop: float = 0.0,
        rmsnorm: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_integer("num_labels", num_labels)
        self.cls_drop = check_rate("cls_drop", cls_drop)
        self.norm = make_norm(channel_dim, rmsnorm=rmsnorm, dtype=dtype) if use_norm else None
        self.mlp = mlp
        if mlp:
            self.fc1 = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
            self.fc2 = Linear(channel_dim, num_labels, dtype=dtype, rngs=rngs)
        else:
            self.fc = Linear(channel_dim, num_labels, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... C"], key: Key | None = None) -> Float[Array, "... C_out"]:
        """Return the logits in float32; `key` switches dropout on."""
        x = dropout(x, self.cls_drop, key)
        x = x if self.norm is None else self.norm(x)
        logits = self.fc2(gelu_erf(self.fc1(x))) if self.mlp else self.fc(x)
        return logits.astype(jnp.float32)


def pool_tokens(
    x: Float[Array, "B N C"], pool: str | None, mask: Bool[Array, "B N"] | None = None
) -> Float[Array, "B C"] | Float[Array, "B N C"]:
    """Return the 'mean' or 'max' over the tokens, the first token for 'cls', or x itself for None.

    With a mask padded tokens do not count; a sample without any real token gives zeros.
    """
    if pool is None:
        return x
    if pool == "cls":
        return x[:, 0]
    real = None if mask is None else mask[..., None]
    if pool == "mean":
        total = jnp.sum(x if real is None else jnp.where(real, x, 0), axis=1, dtype=jnp.float32)
        count = x.shape[1] if real is None else jnp.maximum(real.sum(1), 1)
        return (total / count).astype(x.dtype)
    if real is None:
        return maximum(x, 1)[:, 0]
    return jnp.where(real.any(1), maximum(jnp.where(real, x, -jnp.inf), 1)[:, 0], 0)
