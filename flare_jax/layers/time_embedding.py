"""Sinusoidal embedding of a scalar time, and the small MLP that conditions a model on it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_dtype, check_integer
from flare_jax.layers.linear import InputLinear, Linear

MAX_PERIOD = 10000.0


class TimeEmbedding(nnx.Module):
    """`fc2(silu(fc1 e(t)))` with the sinusoidal embedding e of width `channel_dim`; add the result to every point.

    It computes in float32; the result has the compute dtype.
    """

    def __init__(self, channel_dim: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.channel_dim = check_integer("channel_dim", channel_dim)
        self.dtype = check_dtype(dtype)
        self.fc1 = InputLinear(channel_dim, channel_dim, rngs=rngs)
        self.fc2 = Linear(channel_dim, channel_dim, rngs=rngs)

    def __call__(self, time: Float[Array, "B"] | Float[Array, "B 1"]) -> Float[Array, "B 1 C"]:
        """Return the embedding of one time per sample, with an axis to broadcast over the points."""
        embedded = sinusoidal_embedding(time.reshape(-1), self.channel_dim)
        return self.fc2(jax.nn.silu(self.fc1(embedded))).astype(self.dtype)[:, None]


def sinusoidal_embedding(time: Float[Array, "B"], channel_dim: int) -> Float[Array, "B C"]:
    """Return `cos(ωt) ⊕ sin(ωt)` in float32, ω_j = 10000^(−j/(C/2)) for j < C/2; an odd C ends with a zero."""
    half = channel_dim // 2
    frequencies = np.exp(-np.log(MAX_PERIOD) * np.arange(half) / max(half, 1))
    angles = time.astype(jnp.float32)[:, None] * jnp.asarray(frequencies, jnp.float32)
    embedded = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.pad(embedded, ((0, 0), (0, channel_dim % 2)))


def check_time(time: jax.Array | None, batch_size: int, time_input: bool) -> None:
    """Raise unless `time` is a float array [B] or [B, 1] exactly if the model has `time_input`."""
    if time is None and time_input:
        raise ValueError("time is None but time_input is True; pass one time per sample as an array [B]")
    if time is None:
        return
    if not time_input:
        raise ValueError(
            f"time has shape {time.shape} but the model has time_input=False; build it with time_input=True"
        )
    if time.shape not in ((batch_size,), (batch_size, 1)):
        raise ValueError(
            f"time has shape {time.shape} but must be [B] = ({batch_size},) or [B, 1]; pass one time per sample"
        )
    if not jnp.issubdtype(time.dtype, jnp.floating):
        raise ValueError(f"time has dtype {time.dtype} but must be floating point; convert it to float32")
