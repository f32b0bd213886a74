"""The attention mixers and their blocks in plain numpy float64, from the original's state_dict, as a second opinion.

Arrays are [B, H, N, D], masks [B, N]. `options` are those of the block constructors.
"""

import math

import numpy as np

from tests.flare_jax.models.naive_flare import (
    activation,
    feed_forward_activation,
    flare_attention,
    linear,
    merge_heads,
    norm,
    residual_mlp,
    softmax,
    split_heads,
)

_erf = np.vectorize(math.erf)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm_of(x):
    return np.sqrt((x**2).sum(-1, keepdims=True))


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def taylor(x):
    d = x.shape[-1]
    products = [x[..., i] * x[..., j] for i in range(d) for j in range(i + 1, d)]
    first = [np.ones(x.shape[:-1]), *np.moveaxis(x, -1, 0) / d**0.25, *np.moveaxis(x, -1, 0) ** 2 / np.sqrt(2 * d)]
    return np.stack([*first, *(product / np.sqrt(d) for product in products)], axis=-1)


FIXED = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
    "silu": lambda x: x * sigmoid(x) + 0.5,
    "elu": lambda x: elu(x) + 1,
    "elu_norm": lambda x: elu(x / np.maximum(norm_of(x), 1e-6)) + 1,
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.log(1 + np.exp(x)) + 1e-6,
    "exp": lambda x: np.exp(np.clip(x, -30, 30)),
    "cos": np.cos,
    "sin": np.sin,
    "taylor": taylor,
}


def feature_map(state, name, kernel, x):
    if kernel in FIXED:
        return FIXED[kernel](x)
    if kernel == "swiglu":
        value, gate = np.split(linear(state, f"{name}.layer1", x), 2, axis=-1)
        return linear(state, f"{name}.layer3", value * gate * sigmoid(gate))
    if kernel == "hadamard":
        return linear(state, f"{name}.layer1", x) * linear(state, f"{name}.layer2", x)
    if kernel == "hedgehog":
        z = linear(state, f"{name}.layer", x)
        return softmax(np.concatenate((2 * z, -2 * z), axis=-1), -1)
    assert kernel == "outer"
    outer = (x @ state[f"{name}.layer1.weight"].T)[..., :, None] * (x @ state[f"{name}.layer2.weight"].T)[..., None, :]
    rows, columns = np.triu_indices(outer.shape[-1])
    return outer[..., rows, columns]


def rotate(x, mode):
    """Multiply [B, H, N, D] by rotary factors, entry by entry as the specification has them."""
    n, d = x.shape[2:]
    out = np.empty_like(x)
    for i in range(d):
        angle = np.arange(n) * 10000.0 ** (-(i // 2) / (d / 2))
        if mode == "interleaved":
            companion = -x[..., i + 1] if i % 2 == 0 else x[..., i - 1]
        else:
            companion = -x[..., 2 * i + 1] if i < d / 2 else x[..., 2 * (i - d // 2)]
        out[..., i] = x[..., i] * np.cos(angle) + companion * np.sin(angle)
    return out


def with_rope(rope, *arrays):
    return arrays if rope is None else tuple(rotate(x, rope) for x in arrays)


def drop_padding(mask, *arrays):
    return arrays if mask is None else tuple(x * mask[:, None, :, None] for x in arrays)


def sdpa(q, k, v, mask=None):
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        logits = np.where(mask[:, None, None, :], logits, -np.inf)
    return softmax(logits, -1) @ v


def consecutive_qkv(state, name, x, heads):
    return [split_heads(part, heads) for part in np.split(linear(state, f"{name}.qkv_proj", x), 3, axis=-1)]


def interleaved_qkv(state, name, x, heads):
    y = linear(state, f"{name}.qkv_proj", x)
    per_head = y.reshape(*y.shape[:2], heads, -1)
    return [part.swapaxes(1, 2) for part in np.split(per_head, 3, axis=-1)]


def transformer(state, name, x, options, mask, rope):
    q, k, v = consecutive_qkv(state, name, x, options["num_heads"])
    y = sdpa(*with_rope(rope, q, k), v, mask)
    (y,) = drop_padding(mask, y)
    return merge_heads(y)


def linformer(state, name, x, options, mask, rope):
    q, k, v = interleaved_qkv(state, name, x, options["num_heads"])
    q, k = with_rope(rope, q, k)
    k, v = drop_padding(mask, k, v)
    n = x.shape[1]
    k, v = state[f"{name}.E_k"][:n].T @ k, state[f"{name}.E_v"][:n].T @ v
    (y,) = drop_padding(mask, sdpa(q, k, v))
    return merge_heads(y)


def normalised(q, k, v):
    return q @ (k.swapaxes(-1, -2) @ v) / (q @ k.sum(2)[..., None] + 1e-6)


def linear_attention(state, name, x, options, mask, rope):
    q, k, v = interleaved_qkv(state, name, x, options["num_heads"])
    q, k = (feature_map(state, f"{name}.kernel", options.get("kernel", "silu"), z) for z in with_rope(rope, q, k))
    q = q / (norm_of(q) + 1e-6) if options.get("norm_q") else q
    k = k / (norm_of(k) + 1e-6) if options.get("norm_k") else k
    return merge_heads(normalised(q, *drop_padding(mask, k, v)))


def linear_no(state, name, x, options, mask, rope):
    q, k, v = (split_heads(linear(state, f"{name}.{part}_proj", x), options["num_heads"]) for part in "qkv")
    if mask is not None:
        k = np.where(mask[:, None, :, None], k, -np.inf)
    y = softmax(q, -1) @ (softmax(k, 2).swapaxes(-1, -2) @ v)
    return norm(state, f"{name}.norm", merge_heads(y))


def performer(state, name, x, options, mask, rope):
    q, k, v = consecutive_qkv(state, name, x, options["num_heads"])
    rows = state[f"{name}.proj_matrix"]

    def exponents(z):
        z = z / z.shape[-1] ** 0.25 if options.get("normalize_inputs", True) else z
        return z @ rows.swapaxes(-1, -2) - (z**2).sum(-1, keepdims=True) / 2

    def features(u, peak):
        return (np.exp(u - peak) + 1e-6) / np.sqrt(rows.shape[1])

    q, k = map(exponents, with_rope(rope, q, k))
    if options.get("estimator", "favor") == "reference":
        peak = k.max(-1, keepdims=True)
    else:
        seen = k if mask is None else np.where(mask[:, None, :, None], k, -np.inf)
        peak = seen.max((2, 3), keepdims=True)
    q, k = features(q, q.max(-1, keepdims=True)), features(k, peak)
    return merge_heads(normalised(q, *drop_padding(mask, k, v)))


MIXERS = {
    "transformer": transformer,
    "linformer": linformer,
    "linear": linear_attention,
    "linear_no": linear_no,
    "performer": performer,
}


def block(state, name, x, backend, options, mask=None, rope=None):
    """Return the block `backend` applied to x; `options["act"]` and norms come from options and state."""
    normed = norm(state, f"{name}.norm1", x)
    if backend in ("flare", "flarepp"):
        mixer = flare if backend == "flare" else flarepp
        x = x + mixer(state, f"{name}.att", normed, options, mask, rope)
    else:
        mixed = MIXERS[backend](state, f"{name}.att", normed, options, mask, rope)
        x = x + linear(state, f"{name}.att.out_proj", mixed)
    normed = norm(state, f"{name}.norm2", x)
    if backend in ("flare", "flarepp", "linear_no"):
        return x + residual_mlp(state, f"{name}.mlp", normed, activation(options["act"]))
    hidden = feed_forward_activation(options["act"])(linear(state, f"{name}.mlp.fc1", normed))
    return x + linear(state, f"{name}.mlp.fc2", hidden)


def flare(state, name, x, options, mask, rope):
    """FLARE without masks and positions is that of the PDE models; with them it is written out here."""
    heads, scale = options["num_heads"], options.get("attn_scale", 1.0)
    scale = {"one": 1.0, "sqrt": (x.shape[-1] // heads) ** -0.5}.get(scale, scale)
    if mask is None and rope is None:
        return flare_attention(state, name, x, heads, scale, options["act"])[0]
    act = activation(options["act"])
    latents = state[f"{name}.latent_q"]
    q = latents.reshape(heads, latents.shape[1], -1)
    k, v = (split_heads(residual_mlp(state, f"{name}.{part}_proj", x, act), heads) for part in "kv")
    (k,) = with_rope(rope, k)
    logits = scale * q @ k.swapaxes(-1, -2)
    gather = logits if mask is None else np.where(mask[:, None, None, :], logits, -np.inf)
    y = softmax(logits, -2).swapaxes(-1, -2) @ (softmax(gather, -1) @ v)
    (y,) = drop_padding(mask, y)
    return linear(state, f"{name}.out_proj", merge_heads(y))


def flarepp(state, name, x, options, mask, rope):
    """FLARE++ with layer norms; positions turn keys, not the values of the first gather."""
    heads = options["num_heads"]

    def layer_norm(t, norm_name=""):
        t = (t - t.mean(-1, keepdims=True)) / np.sqrt(t.var(-1, keepdims=True) + 1e-5)
        return t * state.get(f"{norm_name}.weight", 1.0) + state.get(f"{norm_name}.bias", 0.0)

    k0, k, v = (split_heads(linear(state, f"{name}.{part}_proj", x), heads) for part in ("k0", "k", "v"))
    k0 = v0 = layer_norm(k0)
    if not options.get("share_k0_v0", True):
        v0 = layer_norm(split_heads(linear(state, f"{name}.v0_proj", x), heads))
    k = layer_norm(k, f"{name}.k_norm") if options.get("k_norm", True) else k
    k0, k = with_rope(rope, k0, k)
    fixed = state[f"{name}.latent_q_fixed"]
    fixed = layer_norm(fixed) if options.get("q_fixed_norm", True) else fixed
    gathered = sdpa(layer_norm(state[f"{name}.latent_q0"], f"{name}.q0_norm"), k0, v0, mask)
    q = fixed + sigmoid(state[f"{name}.gate_logit"])[:, None, None] * gathered
    (y,) = drop_padding(mask, sdpa(k, q, sdpa(q, k, v, mask)))
    return linear(state, f"{name}.out_proj", merge_heads(y))
