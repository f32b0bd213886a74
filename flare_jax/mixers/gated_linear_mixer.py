"""Gated linear attention as a token mixer (arXiv 2312.06635): the recurrent baseline of causal FLARE."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import RMSNorm
from flare_jax.layers.sharding import on_each_device
from flare_jax.mixers.causal_streams import DecoderConfig, Places, filter_streams, make_convolutions
from flare_jax.mixers.heads import merge_heads, split_heads
from flare_jax.options import MAX_WIDTH, option
from kernels import gated_linear_attention

# The logarithm of what a channel keeps is that of a sigmoid over this.
_TEMPERATURE = 16.0


@dataclass(frozen=True, kw_only=True)
class GatedLinearConfig(DecoderConfig):
    """Options of a decoder of gated linear attention."""

    gate_rank: int = option(16, help="rank of the map to what is kept", minimum=1, maximum=MAX_WIDTH)

    def check_together(self) -> None:
        super().check_together()
        if self.channel_dim % (2 * self.num_heads):
            raise ValueError(
                f"channel_dim is {self.channel_dim} but the keys of {self.num_heads} heads share half of it; "
                f"choose a multiple of {2 * self.num_heads}"
            )


class GatedLinearState(NamedTuple):
    """What later tokens need: the sum `[B, H, D, C]` that decays, and the last inputs of the convolved streams."""

    memory: jax.Array
    tails: dict[str, jax.Array]


class GatedLinearAttention(nnx.Module):
    """`S ← diag(e^g) S + k vᵀ`, `y = D^-1/2 Sᵀ q` per head, with `g = log sigmoid(W₂ W₁ x + b) / 16` per channel of k.

    Queries and keys take half of the channels. The heads are normalised and gated by the token.
    """

    def __init__(
        self, config: GatedLinearConfig, *, context: int = 1024, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        channels, half = config.channel_dim, config.channel_dim // 2
        linear = partial(Linear, use_bias=False, dtype=dtype, rngs=rngs)
        self.config, self.dtype = config, jnp.dtype(dtype)
        self.q_proj, self.k_proj = linear(channels, half), linear(channels, half)
        self.v_proj = linear(channels, channels)
        widths = {"q": half, "k": half, "v": channels}
        convolutions = make_convolutions(tuple(widths), config, widths, dtype, rngs)
        self.q_conv, self.k_conv, self.v_conv = (convolutions[name] for name in widths)
        self.gk_proj_0 = linear(channels, config.gate_rank)
        self.gk_proj_1 = Linear(config.gate_rank, half, dtype=dtype, rngs=rngs)
        self.g_proj = linear(channels, channels)
        self.out_norm = RMSNorm(config.head_dim, epsilon=config.norm_epsilon, dtype=dtype)
        self.o_proj = linear(channels, channels)

    def init_state(self, batch: int, max_length: int) -> GatedLinearState:
        """Return the state before the first token, of a size that does not depend on `max_length`."""
        heads, width = self.config.num_heads, self.config.head_dim
        tails = {name: conv.init_tail(batch) for name, conv in self._convolutions().items() if conv is not None}
        return GatedLinearState(jnp.zeros((batch, heads, width // 2, width)), tails)

    def __call__(
        self, x: Float[Array, "B N C"], places: Places, state: GatedLinearState | None = None
    ) -> tuple[Float[Array, "B N C"], GatedLinearState | None]:
        """Return the mixed tokens, and the state after them if one is given to go on from."""
        heads = self.config.num_heads
        streams = {"q": self.q_proj(x), "k": self.k_proj(x), "v": self.v_proj(x)}
        streams, tails = filter_streams(streams, self._convolutions(), places, None if state is None else state.tails)
        q, k, v = (split_heads(streams[name], heads) for name in ("q", "k", "v"))
        decay = self.gk_proj_1(self.gk_proj_0(x)).astype(jnp.float32)
        decay = split_heads(jax.nn.log_sigmoid(decay) / _TEMPERATURE, heads)
        if places.starts is not None:
            decay = jnp.where(places.starts[:, :, None, None], -jnp.inf, decay)
        rows = {"q": q, "k": k, "v": v, "log_decay": decay, "mask": places.mask}
        rows["initial_state"] = None if state is None else state.memory
        y, memory = on_each_device(_attend, rows, (), leading=x.shape[:1], implementation=None)
        y = self.out_norm(y) * jax.nn.silu(split_heads(self.g_proj(x), heads))
        return self.o_proj(merge_heads(y)), None if state is None else GatedLinearState(memory, tails)

    def _convolutions(self) -> dict[str, nnx.Module | None]:
        return {"q": self.q_conv, "k": self.k_conv, "v": self.v_conv}


def _attend(rows: dict[str, Any], _: Any, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """Return heads of outputs and the state after them."""
    return gated_linear_attention(**rows, scale=rows["q"].shape[-1] ** -0.5, return_state=True)
