"""Supernode pooling: messages from the neighbours of chosen points (UPT, arXiv 2402.12364, encoder)."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flare_jax.checks import check_dtype, check_integer, check_positive
from flare_jax.layers.activations import gelu_erf
from flare_jax.layers.coordinate_embedding import check_embedding_width, embed_coordinates
from flare_jax.layers.fan_in_initialization import draw_fan_in_uniform
from flare_jax.layers.linear import InputLinear, Linear
from flare_jax.layers.supernodes import nearest_within


class SupernodePooling(nnx.Module):
    """Mean over the neighbours n of supernode s of `message2(gelu(message1(e_n ⊕ e_s)))`.

    `e = input_proj(features) + embedding of the coordinates`. Neighbours are the nearest `max_degree` points within
    `radius`, in the units of the coordinates. No gradient flows through their selection. Linear layers start with the
    defaults of PyTorch.
    """

    def __init__(
        self,
        in_dim: int,
        space_dim: int,
        channel_dim: int,
        *,
        radius: float,
        max_degree: int,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_embedding_width(channel_dim, space_dim)
        self.channel_dim = channel_dim
        self.radius = check_positive("radius", radius)
        self.max_degree = check_integer("max_degree", max_degree)
        self.dtype = check_dtype(dtype)
        self.input_proj = InputLinear(in_dim, channel_dim, rngs=rngs)
        # The first layer of the embedded coordinates.
        self.message1 = InputLinear(2 * channel_dim, channel_dim, rngs=rngs)
        self.message2 = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        draw_fan_in_uniform(self, rngs)

    def __call__(
        self,
        features: Float[Array, "B N C_in"],
        p: Float[Array, "B N C_p"],
        supernodes: Int[Array, "B M"],
        mask: Bool[Array, "B N"] | None = None,
    ) -> Float[Array, "B M C"]:
        """Return one token per supernode, zero for one without a real neighbour; `p` are the float32 coordinates."""
        index, exists = nearest_within(p, supernodes, radius=self.radius, max_degree=self.max_degree, mask=mask)
        embedded = self.input_proj(features) + embed_coordinates(p, self.channel_dim)
        b, m, degree = index.shape
        neighbours = jnp.take_along_axis(embedded, index.reshape(b, -1, 1), axis=1).reshape(b, m, degree, -1)
        centres = jnp.take_along_axis(embedded, supernodes[..., None], axis=1)[:, :, None]
        pairs = jnp.concatenate([neighbours, jnp.broadcast_to(centres, neighbours.shape)], axis=-1)
        messages = self.message2(gelu_erf(self.message1(pairs)))
        total = jnp.where(exists[..., None], messages, 0).sum(2, dtype=jnp.float32)
        return (total / jnp.maximum(exists.sum(2), 1)[..., None]).astype(self.dtype)
