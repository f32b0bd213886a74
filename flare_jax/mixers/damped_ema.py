"""The damped multi-dimensional moving average of MEGA (Ma et al., arXiv 2209.10655), in both directions."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_choice, check_integer, check_positive
from flare_jax.layers.initializers import linear_kernel, zeros
from flare_jax.layers.linear import Linear

EMA_IMPLEMENTATIONS = ("scan", "conv", "reference_cumsum", "reference_conv")
CHUNK = 64
# Bounds of ln(1 − αδ) in the cumulative sum of the original.
LOG_DECAY_BOUNDS = (math.log(1e-4), math.log1p(-1e-4))


class DampedEMA(nnx.Module):
    """`proj` of the forward and the backward filter of every channel, with `num_components` components h per channel.

    With α, δ, β = sigmoid of the logits and readout η, the filter is f_t = Σ_{τ≤t} w_{t−τ} x_τ with
    w_κ = Σ_h η α β (1 − α δ)^κ; the backward filter is the same on the reversed sequence, both include the token
    itself. `ema_impl` names how it is computed:

    - 'scan' (default): exact, in chunks of tokens with a carried state; memory O(N);
    - 'conv': convolution with the first `kernel_size` weights, exact for N ≤ kernel_size;
    - 'reference_cumsum': the original's cumulative sum, which clamps 1 − α δ to [1e-4, 1 − 1e-4] and the exponents of
      its decays to ±`exponent_limit`, and so becomes an undamped sum once t·|ln(1 − α δ)| exceeds the limit;
    - 'reference_conv': the original's convolution, which gives the oldest token of its window the weight w_0.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_components: int = 4,
        ema_impl: str = "scan",
        kernel_size: int = 2048,
        exponent_limit: float = 60.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_choice("ema_impl", ema_impl, EMA_IMPLEMENTATIONS)
        shape = (check_integer("channel_dim", channel_dim), check_integer("num_components", num_components))
        self.ema_impl = ema_impl
        self.kernel_size = check_integer("kernel_size", kernel_size)
        self.exponent_limit = check_positive("exponent_limit", exponent_limit)
        self.alpha_logits = nnx.Param(zeros(shape))
        self.delta_logits = nnx.Param(zeros(shape))
        self.beta_logits = nnx.Param(zeros(shape))
        self.eta = nnx.Param(linear_kernel(rngs.params(), shape))
        self.proj = Linear(2 * channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None) -> Float[Array, "B N C"]:
        """Filter each channel in float32 and mix the channels; tokens that `mask` marks False count as zeros."""
        if mask is not None:
            x = jnp.where(mask[..., None], x, 0)
        x = x.astype(jnp.float32)
        # Both directions have the same weights, so they are one batch.
        both = self._filter(jnp.concatenate([x, x[:, ::-1]], axis=0))
        forward, backward = jnp.split(both, 2, axis=0)
        return self.proj(jnp.concatenate([forward, backward[:, ::-1]], axis=-1))

    def _filter(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
        log_decay = log_decays(self.alpha_logits[...], self.delta_logits[...])
        gain = jax.nn.sigmoid(self.alpha_logits[...]) * jax.nn.sigmoid(self.beta_logits[...]) * self.eta[...]
        if self.ema_impl == "reference_cumsum":
            return cumulative_sum_filter(x, log_decay, gain, exponent_limit=self.exponent_limit)
        if self.ema_impl == "scan":
            return scan_filter(x, log_decay, gain)
        weights = filter_weights(log_decay, gain, min(x.shape[1], self.kernel_size))
        return convolve(x, weights[::-1] if self.ema_impl == "reference_conv" else weights)


def log_decays(alpha_logits: Float[Array, "C _"], delta_logits: Float[Array, "C _"]) -> Float[Array, "C _"]:
    """Return ln(1 − αδ), finite and without cancellation for any logits: 1 − αδ = (1 − α) + α(1 − δ)."""
    alpha, complement = jax.nn.log_sigmoid(alpha_logits), jax.nn.log_sigmoid(-alpha_logits)
    return jnp.logaddexp(complement, alpha + jax.nn.log_sigmoid(-delta_logits))


def filter_weights(log_decay: Float[Array, "C _"], gain: Float[Array, "C _"], length: int) -> Float[Array, "T C"]:
    """Return w_κ = Σ_h gain · decay^κ for the lags κ = 0 ... length − 1."""
    return jnp.einsum("tch,ch->tc", _powers(log_decay, length), gain)


def scan_filter(
    x: Float[Array, "B N C"], log_decay: Float[Array, "C _"], gain: Float[Array, "C _"]
) -> Float[Array, "B N C"]:
    """Return Σ_{τ≤t} w_{t−τ} x_τ: inside chunks by the weights, across them by the state s = Σ_τ decay^{t−τ} x_τ."""
    batch, length, channels = x.shape
    size = min(CHUNK, length)
    chunks = jnp.pad(x, ((0, 0), (0, -length % size), (0, 0))).reshape(batch, -1, size, channels)
    powers = _powers(log_decay, size)
    lag = jnp.arange(size)[:, None] - jnp.arange(size)
    weights = jnp.einsum("tch,ch->tc", powers, gain)
    within = jnp.where((lag >= 0)[..., None], weights[jnp.maximum(lag, 0)], 0)
    y = jnp.einsum("tuc,bnuc->bntc", within, chunks)
    last = jnp.einsum("uch,bnuc->bnch", powers[::-1], chunks)
    y += jnp.einsum("tch,bnch->bntc", powers * jnp.exp(log_decay) * gain, _entering_states(last, log_decay, size))
    return y.reshape(batch, -1, channels)[:, :length]


def _entering_states(last: Float[Array, "B T C _"], log_decay: Float[Array, "C _"], size: int) -> Float[Array, "..."]:
    """Return the state with which each chunk begins, from the part of the state that each chunk adds at its end."""

    def extend(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        (chunks, state), (more_chunks, more_state) = earlier, later
        return chunks + more_chunks, jnp.exp(size * more_chunks * log_decay) * state + more_state

    count = jnp.ones((1, last.shape[1], 1, 1), last.dtype)
    _, leaving = jax.lax.associative_scan(extend, (count, last), axis=1)
    return jnp.pad(leaving[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))


def convolve(x: Float[Array, "B N C"], weights: Float[Array, "T C"]) -> Float[Array, "B N C"]:
    """Return Σ_κ weights_κ x_{t−κ} of every channel, zeros before the first token, by fast Fourier transforms."""
    length = x.shape[1]
    size = length + weights.shape[0] - 1
    product = jnp.fft.rfft(x, size, axis=1) * jnp.fft.rfft(weights, size, axis=0)
    return jnp.fft.irfft(product, size, axis=1)[:, :length]


def cumulative_sum_filter(
    x: Float[Array, "B N C"], log_decay: Float[Array, "C _"], gain: Float[Array, "C _"], *, exponent_limit: float
) -> Float[Array, "B N C"]:
    """Return the original's filter: e^{ℓ_t} Σ_{τ≤t} x_τ e^{−ℓ_τ} with ℓ_t = clamp(t · ln decay, ±exponent_limit)."""
    log_decay = jnp.clip(log_decay, *LOG_DECAY_BOUNDS)
    steps = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None, None]
    exponent = jnp.clip(steps * log_decay, -exponent_limit, exponent_limit)
    sums = jnp.cumsum(x[..., None] * jnp.exp(-exponent), axis=1)
    return jnp.einsum("tch,btch->btc", jnp.exp(exponent) * gain, sums)


def _powers(log_decay: Float[Array, "C _"], length: int) -> Float[Array, "T C _"]:
    """Return decay^κ for κ = 0 ... length − 1."""
    return jnp.exp(jnp.arange(length, dtype=jnp.float32)[:, None, None] * log_decay)
