"""Causal FLARE as a token mixer: latents that gather all earlier tokens, read by every token (docs/language.md)."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.layers.initializers import normal
from flare_jax.layers.linear import InputLinear, Linear
from flare_jax.layers.norms import RMSNorm
from flare_jax.layers.rotary import check_even_heads, rotate_halves
from flare_jax.layers.sharding import on_each_device, points_are_split
from flare_jax.mixers.causal_streams import DecoderConfig, Places, filter_streams, make_convolutions
from flare_jax.mixers.heads import merge_heads, split_heads
from flare_jax.options import MAX_POINTS, option
from kernels import causal_flare, gated_linear_attention, stablemax_flare
from kernels.causal_flare import decode_step, init_stablemax_state, init_state

GATHERS = ("softmax", "stablemax", "state")
IMPLEMENTATIONS = ("reference", "xla", "pallas")
MOST_LATENTS = 2048
# Half-life, in tokens, of the head that forgets fastest.
_SHORTEST_HALF_LIFE = 16.0


@dataclass(frozen=True, kw_only=True)
class CausalFlareConfig(DecoderConfig):
    """Options of a decoder of causal FLARE."""

    num_latents: int = option(help="latents of each head", minimum=1, maximum=MOST_LATENTS)
    rope: bool = option(True, help="turn keys by their positions")
    rope_base: float = option(10_000.0, help="base of the angles", above=0, needs="rope")
    qk_norm: bool = option(False, help="normalise keys and latents per head")
    separate_read: bool = option(False, help="read with keys and latents of its own")
    forget: bool = option(False, help="each head forgets what came before by a factor made from the token")
    out_gate: bool = option(False, help="normalise the heads and gate them by the token")
    gather: str = option(
        "softmax",
        help="weights of the latents' sums over tokens; state: signed, not normalised, as in a state-space model",
        choices=GATHERS,
    )
    block: int = option(
        1, help="tokens of a block, which see one another; 1 is causal", minimum=1, maximum=MAX_POINTS,
        needs=("gather", "softmax"),
    )  # fmt: skip
    implementation: str | None = option(
        None, help="form of the operation; None chooses", choices=IMPLEMENTATIONS, needs=("gather", "softmax")
    )

    def check_together(self) -> None:
        super().check_together()
        if self.rope:
            check_even_heads(self.head_dim)
        if self.forget and self.gather == "stablemax":
            raise ValueError("forget is True but gather 'stablemax' keeps everything; set forget=False")
        if self.gather == "state" and not self.forget:
            raise ValueError("gather is 'state' but forget is False, so that sums would grow without bound; set forget")
        if self.forget and self.block > 1:
            raise ValueError(f"forget is True but blocks of {self.block} tokens do not forget; set block=1")


class CausalFlareState(NamedTuple):
    """What later tokens need: the state of the latents, and the last inputs of the convolved streams by name."""

    latents: Any
    tails: dict[str, jax.Array]


class CausalFlareAttention(nnx.Module):
    """Prefix softmaxes of `num_latents` learned latents per head over the tokens, read by a softmax over the latents.

    `latents` [H, M, D] ~ Normal(0, 1). Separate reading starts with the latents and the map of gathering, so that a
    token reads first from the latents that gathered tokens like it, and with `short_conv` the tokens after these;
    started at random, reading has to find that first, and associative recall of many pairs is not learnt. `context` is
    the number of tokens that half of is kept by the head that forgets slowest, at the start.
    """

    def __init__(
        self, config: CausalFlareConfig, *, context: int = 1024, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        channels, heads, width = config.channel_dim, config.num_heads, config.head_dim
        linear = partial(Linear, channels, channels, use_bias=False, dtype=dtype, rngs=rngs)
        norm = partial(RMSNorm, width, epsilon=config.norm_epsilon, dtype=dtype)
        separate, normed = config.separate_read, config.qk_norm
        self.config, self.dtype = config, jnp.dtype(dtype)
        self.k_proj, self.v_proj = linear(), linear()
        self.r_proj = linear() if separate else None
        names = ("k", "v", "r") if separate else ("k", "v")
        convolutions = make_convolutions(names, config, dict.fromkeys(names, channels), dtype, rngs)
        self.k_conv, self.v_conv, self.r_conv = convolutions["k"], convolutions["v"], convolutions.get("r")
        shape = (heads, config.num_latents, width)
        self.latents = nnx.Param(normal(1.0)(rngs.params(), shape))
        self.latents_read = nnx.Param(normal(1.0)(rngs.params(), shape)) if separate else None
        self.q_norm, self.k_norm = (norm(), norm()) if normed else (None, None)
        self.qr_norm, self.r_norm = (norm(), norm()) if normed and separate else (None, None)
        self.forget_proj = _forgetting(channels, heads, context, rngs) if config.forget else None
        self.g_proj, self.out_norm = (linear(), norm()) if config.out_gate else (None, None)
        self.o_proj = linear()
        if separate:
            self._read_as_gathered()

    def init_state(self, batch: int, max_length: int) -> CausalFlareState:
        """Return the state before the first token, of a size that does not depend on `max_length`."""
        sizes = (batch, self.config.num_heads, self.config.num_latents, self.config.head_dim)
        match self.config.gather:
            case "softmax":
                latents = init_state(*sizes)
            case "stablemax":
                latents = init_stablemax_state(*sizes)
            case _:
                latents = jnp.zeros(sizes)
        return CausalFlareState(latents, {name: conv.init_tail(batch) for name, conv in self._convolutions().items()})

    def __call__(
        self, x: Float[Array, "B N C"], places: Places, state: CausalFlareState | None = None
    ) -> tuple[Float[Array, "B N C"], CausalFlareState | None]:
        """Return the mixed tokens, and the state after them if one is given to go on from."""
        maps = {"k": self.k_proj, "v": self.v_proj} | ({"r": self.r_proj} if self.r_proj is not None else {})
        convolutions = dict.fromkeys(maps) | self._convolutions()
        streams = {name: map_(x) for name, map_ in maps.items()}
        streams, tails = filter_streams(streams, convolutions, places, None if state is None else state.tails)
        heads = {name: split_heads(value, self.config.num_heads) for name, value in streams.items()}
        k = self._key(heads["k"], self.k_norm, places)
        r = None if self.r_proj is None else self._key(heads["r"], self.r_norm, places)
        rows = {"k": k, "v": heads["v"], "k_decode": r, "log_decay": self._log_decay(x, places), "mask": places.mask}
        latents = {"q": self._query(self.latents, self.q_norm), "q_decode": None}
        if self.latents_read is not None:
            latents["q_decode"] = self._query(self.latents_read, self.qr_norm)
        y, new = self._mix(rows, latents, None if state is None else state.latents)
        if self.g_proj is not None:
            gate = split_heads(self.g_proj(x), self.config.num_heads)
            y = self.out_norm(y) * jax.nn.silu(gate)
        y = self.o_proj(merge_heads(y.astype(self.dtype)))
        return y, None if state is None else CausalFlareState(new, tails)

    def _read_as_gathered(self) -> None:
        for read, gathered in ((self.latents_read, self.latents), (self.r_proj.kernel, self.k_proj.kernel)):
            # A copy: a step may not be given one buffer as two parameters.
            read[...] = jnp.copy(gathered[...])

    @property
    def splits_tokens(self) -> bool:
        """Whether devices may share the tokens of a row."""
        return self.config.gather == "softmax" and self.config.block == 1

    def _convolutions(self) -> dict[str, Any]:
        pairs = {"k": self.k_conv, "v": self.v_conv, "r": self.r_conv}
        return {name: convolution for name, convolution in pairs.items() if convolution is not None}

    def _key(self, x: jax.Array, norm: RMSNorm | None, places: Places) -> jax.Array:
        x = x if norm is None else norm(x)
        return rotate_halves(x, places.positions, self.config.rope_base) if self.config.rope else x

    def _query(self, latents: nnx.Param, norm: RMSNorm | None) -> jax.Array:
        return (latents[...] if norm is None else norm(latents[...])).astype(self.dtype)

    def _log_decay(self, x: jax.Array, places: Places) -> jax.Array | None:
        """Return the logarithms of what each head keeps `[B, N, H]`: nothing where a document begins."""
        starts = places.starts
        if self.forget_proj is None and starts is None:
            return None
        shape = (*x.shape[:2], self.config.num_heads)
        decay = jnp.zeros(shape) if self.forget_proj is None else jax.nn.log_sigmoid(self.forget_proj(x))
        return decay if starts is None else jnp.where(starts[..., None], -jnp.inf, decay)

    def _mix(self, rows: dict[str, Any], latents: dict[str, Any], state: Any) -> tuple[jax.Array, Any]:
        config, scale, implementation = self.config, self.config.head_dim**-0.5, self.config.implementation

        def mix(rows: tuple[dict[str, Any], Any], latents: dict[str, Any], axis_name: str | None) -> Any:
            rows, state = rows
            if config.gather == "state":
                return _low_rank_state(rows, latents, state, scale)
            if config.gather == "stablemax":
                return _stablemax(rows, latents, state, scale)
            if state is not None and rows["k"].shape[1] == 1 and config.block == 1:
                token = {name: None if value is None else value[:, 0] for name, value in rows.items()}
                y, state = decode_step(state, **latents, **token, scale=scale)
                return y[:, None], state
            kept = state is not None
            options = {"block": config.block, "implementation": config.implementation, "return_state": kept}
            result = causal_flare(**latents, **rows, initial_state=state, scale=scale, axis_name=axis_name, **options)
            return result if kept else (result, None)

        leading = rows["k"].shape[:1]
        if state is None and self.splits_tokens:
            leading = rows["k"].shape[:2]
            # XLA would gather all tokens to cut a walk over them.
            implementation = None if points_are_split(leading) else implementation
        return on_each_device(mix, (rows, state), latents, leading=leading, implementation=implementation)


def _stablemax(rows: dict[str, Any], latents: dict[str, Any], state: Any, scale: float) -> tuple[jax.Array, Any]:
    if rows["log_decay"] is not None:
        raise ValueError("gather 'stablemax' keeps everything, so that documents cannot be told apart; use 'softmax'")
    rows = {name: value for name, value in rows.items() if name != "log_decay"}
    return stablemax_flare(**latents, **rows, scale=scale, initial_state=state, return_state=True)


def _low_rank_state(rows: dict[str, Any], latents: dict[str, Any], state: Any, scale: float) -> tuple[jax.Array, Any]:
    """Write with the logits themselves into a state `[M, D]` that decays, and read with logits, too."""

    def logits(q: jax.Array, k: jax.Array) -> jax.Array:
        return (scale * jnp.einsum("hmd,bnhd->bnhm", q, k)).astype(k.dtype)

    write = logits(latents["q"], rows["k"])
    read = write if rows["k_decode"] is None else logits(latents["q_decode"], rows["k_decode"])
    decay, mask, width = rows["log_decay"], rows["mask"], latents["q"].shape[1]
    return gated_linear_attention(
        read, write, rows["v"], log_decay=decay, mask=mask, scale=1 / width, initial_state=state, return_state=True
    )


def _forgetting(channels: int, heads: int, context: int, rngs: nnx.Rngs) -> InputLinear:
    """Return the map to logits of what is kept: at first half-lives from 16 tokens to the context, over the heads."""
    proj = InputLinear(channels, heads, kernel_init=jax.nn.initializers.zeros, rngs=rngs)
    half_lives = np.geomspace(_SHORTEST_HALF_LIFE, max(context, _SHORTEST_HALF_LIFE), heads)
    kept = 2.0 ** (-1 / half_lives)
    proj.bias[...] = jnp.asarray(np.log(kept / (1 - kept)), jnp.float32)
    return proj
