"""The state-space mixers written down plainly: a scan step by step, and layers in numpy float64 from a state_dict."""

import jax
import jax.numpy as jnp
import numpy as np


def sequential_scan(x, step, rate, b, c, initial_state=None):
    """The recurrence one entry at a time, differentiable, in the dtype of the inputs."""
    heads, groups = x.shape[2], b.shape[2]
    b, c = (jnp.repeat(array, heads // groups, axis=2) for array in (b, c))

    def advance(state, entry):
        x, step, b, c = entry
        state = jnp.exp(step * rate)[..., None, None] * state
        state = state + (step[..., None] * x)[..., None] * b[..., None, :]
        return state, (state * c[..., None, :]).sum(-1)

    shape = (x.shape[0], heads, x.shape[3], b.shape[3])
    state = jnp.zeros(shape) if initial_state is None else jnp.broadcast_to(initial_state, shape)
    return jax.lax.scan(advance, state, [jnp.moveaxis(a, 1, 0) for a in (x, step, b, c)])[1].swapaxes(0, 1)


def numpy_scan(x, step, rate, b, c, initial_state=None):
    """The recurrence in numpy float64."""
    x, step, rate, b, c = (np.asarray(array, np.float64) for array in (x, step, rate, b, c))
    batch, length, heads, width = x.shape
    state = np.zeros((batch, heads, width, b.shape[3]))
    if initial_state is not None:
        state = state + np.asarray(initial_state, np.float64)
    y = np.zeros(x.shape)
    for n in range(length):
        for head in range(heads):
            group = head // (heads // b.shape[2])
            decay = np.exp(step[:, n, head] * rate[head])[:, None, None]
            gain = np.einsum("b,bd,bs->bds", step[:, n, head], x[:, n, head], b[:, n, group])
            state[:, head] = decay * state[:, head] + gain
            y[:, n, head] = np.einsum("bds,bs->bd", state[:, head], c[:, n, group])
    return y


def entries(state, name):
    """Return the entries below `name` in float64."""
    return {key.removeprefix(f"{name}."): np.asarray(value, np.float64) for key, value in state.items()}


def silu(x):
    return x / (1 + np.exp(-x))


def depthwise(weight, bias, x, *, before):
    """Cross-correlation per channel with `before` zeros in front."""
    weight, width = weight[:, 0], weight.shape[-1]
    padded = np.pad(x, ((0, 0), (before, width - 1 - before), (0, 0)))
    y = np.zeros(x.shape)
    for n in range(x.shape[1]):
        y[:, n] = np.einsum("bkc,ck->bc", padded[:, n : n + width], weight) + bias
    return y


def rms(x, groups=1):
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    return (grouped / np.sqrt((grouped**2).mean(-1, keepdims=True) + 1e-5)).reshape(x.shape)


def hydra(state, name, x, *, state_dim, num_groups, head_dim):
    """The Hydra layer; `name` is the prefix of its entries in the state_dict."""
    get = entries(state, name).__getitem__
    inner, heads, group = get("norm.weight").shape[0], get("D").shape[0], num_groups * state_dim
    z, xbc, dt = np.split(x @ get("in_proj.weight").T, [inner, 2 * inner + 4 * group], axis=-1)
    taps, bias = get("conv1d.weight"), get("conv1d.bias")
    xbc = silu(depthwise(taps, bias, xbc, before=taps.shape[-1] // 2))
    u, bf, cf, bb, cb = np.split(xbc, inner + group * np.arange(4), axis=-1)
    bf, cf, bb, cb = (part.reshape(*x.shape[:2], num_groups, state_dim) for part in (bf, cf, bb, cb))
    xs = u.reshape(*x.shape[:2], heads, head_dim)
    rate = -np.exp(get("A_log"))
    forward = numpy_scan(xs, np.logaddexp(0, dt[..., :heads] + get("dt_bias")), rate, bf, cf, get("init_states"))
    step = np.logaddexp(0, dt[:, ::-1, heads:] + get("dt_bias"))
    backward = numpy_scan(xs[:, ::-1], step, rate, bb[:, ::-1], cb[:, ::-1], get("init_states"))
    shifted_forward, shifted_backward = np.zeros(xs.shape), np.zeros(xs.shape)
    shifted_forward[:, 1:], shifted_backward[:, 1:] = forward[:, :-1], backward[:, :-1]
    diagonal = u @ get("fc_D.weight").T + get("D")
    y = shifted_forward + shifted_backward[:, ::-1] + diagonal[..., None] * xs
    return (rms(y.reshape(u.shape)) * get("norm.weight") * silu(z)) @ get("out_proj.weight").T


def bidirectional_mamba2(state, name, x, *, state_dim, num_groups, head_dim):
    """The bidirectional Mamba-2 layer; `name` is the prefix of its entries in the state_dict."""
    get = entries(state, name).__getitem__
    inner, heads, group = get("norm.weight").shape[0], get("D").shape[0], num_groups * state_dim

    def direction(projected, suffix):
        z, xbc, dt = np.split(projected, [inner, 2 * inner + 2 * group], axis=-1)
        taps, bias = get(f"conv1d{suffix}.weight"), get(f"conv1d{suffix}.bias")
        xbc = silu(depthwise(taps, bias, xbc, before=taps.shape[-1] - 1))
        u, b, c = np.split(xbc, [inner, inner + group], axis=-1)
        b, c = (part.reshape(*x.shape[:2], num_groups, state_dim) for part in (b, c))
        xs = u.reshape(*x.shape[:2], heads, head_dim)
        step = np.logaddexp(0, dt + get(f"dt_bias{suffix}"))
        y = numpy_scan(xs, step, -np.exp(get(f"A_log{suffix}")), b, c) + get(f"D{suffix}")[:, None] * xs
        return rms(y.reshape(u.shape) * silu(z), num_groups) * get("norm.weight")

    projected = x @ get("in_proj.weight").T
    y = (direction(projected, "") + direction(projected[:, ::-1], "_b")[:, ::-1]) / 2
    return y @ get("out_proj.weight").T
