"""Bidirectional state-space mixers: Hydra (arXiv 2407.09941) and Mamba-2 (arXiv 2405.21060) in both directions."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import check_sizes
from flare_jax.layers.depthwise_convolution import DepthwiseConvolution
from flare_jax.layers.gated_norm import GatedRMSNorm
from flare_jax.layers.initializers import draw_uniform, ones, zeros
from flare_jax.layers.linear import Linear
from flare_jax.mixers.selective_scan import selective_scan

SHORTEST_STEP, LONGEST_STEP = 1e-3, 1e-1
SMALLEST_RATE, LARGEST_RATE = 1.0, 16.0


@dataclass(frozen=True)
class StateSpaceSizes:
    """Sizes of a state-space layer of inner width `expand · channel_dim`, in heads of `head_dim` channels.

    Every channel has `state_dim` states. Heads in one of `num_groups` groups share the vectors by which entries write
    to and read from the states. `conv_width` is the length of the filter before the scan. Raises ValueError for sizes
    below 1 and for heads or groups that do not divide evenly.
    """

    channel_dim: int
    state_dim: int
    conv_width: int
    expand: int
    head_dim: int
    num_groups: int

    def __post_init__(self):
        check_sizes(
            channel_dim=self.channel_dim,
            state_dim=self.state_dim,
            conv_width=self.conv_width,
            expand=self.expand,
            state_space_head_dim=self.head_dim,
            num_groups=self.num_groups,
        )
        if self.inner_dim % self.head_dim:
            raise ValueError(
                f"state_space_head_dim {self.head_dim} does not divide the inner width {self.inner_dim} = "
                f"expand {self.expand} · {self.channel_dim}; choose a divisor of the inner width"
            )
        if self.num_heads % self.num_groups:
            raise ValueError(
                f"num_groups {self.num_groups} does not divide the {self.num_heads} state-space heads = inner width "
                f"{self.inner_dim} / state_space_head_dim {self.head_dim}; lower either of the two options"
            )

    @property
    def inner_dim(self) -> int:
        return self.expand * self.channel_dim

    @property
    def num_heads(self) -> int:
        return self.inner_dim // self.head_dim

    @property
    def group_dim(self) -> int:
        """The width of the vectors b, or c, of all groups."""
        return self.num_groups * self.state_dim

    def split_heads(self, x: Float[Array, "B N C"]) -> Float[Array, "B N H D"]:
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim)

    def split_groups(self, x: Float[Array, "B N C"]) -> Float[Array, "B N H_group D_state"]:
        return x.reshape(*x.shape[:2], self.num_groups, self.state_dim)


class ScanInputs(NamedTuple):
    """Arguments of `selective_scan` for one direction, in the order of the sequence."""

    x: Float[Array, "B N H D"]
    step: Float[Array, "B N H"]
    rate: Float[Array, "H"]
    b: Float[Array, "B N H_group D_state"]
    c: Float[Array, "B N H_group D_state"]


class Hydra(nnx.Module):
    """Quasiseparable mixer: strictly earlier entries by a forward scan, strictly later ones by a backward scan.

    Both scans take the same filtered input, rates and learned initial state; each is delayed by one entry, and a
    learned factor per head and entry makes the diagonal. A gated norm follows (Hwang et al., arXiv 2407.09941).
    """

    def __init__(self, sizes: StateSpaceSizes, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.sizes = sizes
        heads, inner_dim = sizes.num_heads, sizes.inner_dim
        # What the convolution filters: x and, for each direction, b and c.
        filtered_dim = inner_dim + 4 * sizes.group_dim
        projected_dim = inner_dim + filtered_dim + 2 * heads
        self.in_proj = Linear(sizes.channel_dim, projected_dim, use_bias=False, dtype=dtype, rngs=rngs)
        self.convolution = DepthwiseConvolution(
            filtered_dim, width=sizes.conv_width, causal=False, dtype=dtype, rngs=rngs
        )
        self.dt_bias = nnx.Param(initial_step_bias(rngs.params(), heads))
        self.A_log = nnx.Param(zeros(heads))
        self.init_states = nnx.Param(zeros((heads, sizes.head_dim, sizes.state_dim)))
        self.diagonal = Linear(inner_dim, heads, use_bias=False, dtype=dtype, rngs=rngs)
        self.skip = nnx.Param(ones(heads))
        self.norm = GatedRMSNorm(inner_dim, norm_before_gate=True, dtype=dtype)
        self.out_proj = Linear(inner_dim, sizes.channel_dim, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
        """Mix along N in both directions."""
        sizes = self.sizes
        gate, filtered, *steps = _split(self.in_proj(x), sizes.inner_dim, -1, sizes.num_heads, sizes.num_heads)
        filtered = jax.nn.silu(self.convolution(filtered))
        x, *groups = _split(filtered, -1, *[sizes.group_dim] * 4)
        heads = sizes.split_heads(x)
        b, c, b_backward, c_backward = map(sizes.split_groups, groups)
        step, step_backward = (_positive_step(step, self.dt_bias[...]) for step in steps)
        rate = -jnp.exp(self.A_log[...])
        forward, backward = scan_both_ways(
            ScanInputs(heads, step, rate, b, c),
            ScanInputs(heads, step_backward, rate, b_backward, c_backward),
            self.init_states[...],
        )
        diagonal = self.diagonal(x).astype(jnp.float32) + self.skip[...]
        y = _delayed(forward) + _delayed(backward[:, ::-1])[:, ::-1] + diagonal[..., None] * heads
        return self.out_proj(self.norm(y.reshape(x.shape), gate))


class BidirectionalMamba2(nnx.Module):
    """Mean of a Mamba-2 layer and of one that runs backwards, with common projections and norm (arXiv 2405.21060)."""

    def __init__(self, sizes: StateSpaceSizes, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.sizes = sizes
        heads, inner_dim = sizes.num_heads, sizes.inner_dim
        projected_dim = 2 * inner_dim + 2 * sizes.group_dim + heads
        self.in_proj = Linear(sizes.channel_dim, projected_dim, use_bias=False, dtype=dtype, rngs=rngs)
        step_bias = initial_step_bias(rngs.params(), heads)
        log_rate = initial_log_rate(rngs.params(), heads)
        self.forward = ScanDirection(sizes, step_bias=step_bias, log_rate=log_rate, dtype=dtype, rngs=rngs)
        self.backward = ScanDirection(sizes, step_bias=step_bias, log_rate=log_rate, dtype=dtype, rngs=rngs)
        self.norm = GatedRMSNorm(inner_dim, norm_before_gate=False, num_groups=sizes.num_groups, dtype=dtype)
        self.out_proj = Linear(inner_dim, sizes.channel_dim, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
        """Mix along N in both directions."""
        gate, filtered, step = _split(self.in_proj(x), self.sizes.inner_dim, -1, self.sizes.num_heads)
        inputs = self.forward.scan_inputs(filtered, step)
        # Its filter looks back in the direction of the scan, so it sees the reversed sequence as well.
        reversed_inputs = self.backward.scan_inputs(filtered[:, ::-1], step[:, ::-1])
        forward, backward = scan_both_ways(inputs, _reversed(reversed_inputs))
        forward = forward + self.forward.skip[...][:, None] * inputs.x
        backward = backward + self.backward.skip[...][:, None] * reversed_inputs.x[:, ::-1]
        forward, backward = (self.norm(y.reshape(gate.shape), gate) for y in (forward, backward))
        return self.out_proj((forward + backward) / 2)


class ScanDirection(nnx.Module):
    """What the two directions of a Mamba-2 mixer do not share: filter, step bias, rates and skip factors."""

    def __init__(
        self,
        sizes: StateSpaceSizes,
        *,
        step_bias: Float[Array, "H"],
        log_rate: Float[Array, "H"],
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.sizes = sizes
        self.convolution = DepthwiseConvolution(
            sizes.inner_dim + 2 * sizes.group_dim, width=sizes.conv_width, causal=True, dtype=dtype, rngs=rngs
        )
        # Copies: two parameters in one buffer could not both be donated to a training step.
        self.dt_bias = nnx.Param(jnp.array(step_bias, copy=True))
        self.A_log = nnx.Param(jnp.array(log_rate, copy=True))
        self.skip = nnx.Param(ones(sizes.num_heads))

    def scan_inputs(self, filtered: Float[Array, "B N C"], step: Float[Array, "B N H"]) -> ScanInputs:
        """Return the inputs of the scan over a sequence of projected entries."""
        sizes = self.sizes
        x, b, c = _split(jax.nn.silu(self.convolution(filtered)), -1, sizes.group_dim, sizes.group_dim)
        return ScanInputs(
            sizes.split_heads(x),
            _positive_step(step, self.dt_bias[...]),
            -jnp.exp(self.A_log[...]),
            sizes.split_groups(b),
            sizes.split_groups(c),
        )


def scan_both_ways(
    forward: ScanInputs, backward: ScanInputs, initial_state: Float[Array, "H D D_state"] | None = None
) -> tuple[Float[Array, "B N H D"], Float[Array, "B N H D"]]:
    """Return the scan of `forward`, and that of `backward` from the last entry to the first, as one scan.

    Inputs and results are in the order of the sequence; both scans start from `initial_state`.
    """
    pairs = zip(forward, _reversed(backward), strict=True)
    # Joined along the heads, which are the only axis of the rates and the third of all else.
    x, step, rate, b, c = (jnp.concatenate(pair, axis=min(pair[0].ndim - 1, 2)) for pair in pairs)
    start = None if initial_state is None else jnp.concatenate([initial_state, initial_state])
    y, y_backward = jnp.split(selective_scan(x, step, rate, b, c, start), 2, axis=2)
    return y, y_backward[:, ::-1]


def initial_step_bias(key: Array, num_heads: int) -> Float[Array, "H"]:
    """Return biases at which softplus gives steps log-uniform in [1e-3, 1e-1] (Mamba-2)."""
    shortest, longest = math.log(SHORTEST_STEP), math.log(LONGEST_STEP)
    step = jnp.exp(draw_uniform(key, (num_heads,), shortest, longest))
    return step + jnp.log(-jnp.expm1(-step))


def initial_log_rate(key: Array, num_heads: int) -> Float[Array, "H"]:
    """Return logarithms of rates uniform in [1, 16] (Mamba-2)."""
    return jnp.log(draw_uniform(key, (num_heads,), SMALLEST_RATE, LARGEST_RATE))


def _split(x: Float[Array, "B N _"], *widths: int) -> list[Float[Array, "B N _"]]:
    """Cut the last axis into parts of these widths, of which one may be −1 for what the others leave."""
    widths = [x.shape[-1] - sum(widths) - 1 if width < 0 else width for width in widths]
    ends = [sum(widths[: part + 1]) for part in range(len(widths) - 1)]
    return jnp.split(x, ends, axis=-1)


def _positive_step(step: Float[Array, "B N H"], bias: Float[Array, "H"]) -> Float[Array, "B N H"]:
    return jax.nn.softplus(step.astype(jnp.float32) + bias)


def _reversed(inputs: ScanInputs) -> ScanInputs:
    """Return the inputs of the sequence read from its end."""
    x, step, rate, b, c = inputs
    return ScanInputs(x[:, ::-1], step[:, ::-1], rate, b[:, ::-1], c[:, ::-1])


def _delayed(y: Float[Array, "B N H D"]) -> Float[Array, "B N H D"]:
    """Return at each entry what the one before had, and zero at the first."""
    return jnp.pad(y[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
