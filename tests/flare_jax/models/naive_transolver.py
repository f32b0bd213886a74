"""Transolver, Transolver++, TS1 and TS3 written down plainly in numpy float64 from their PyTorch state_dict."""

import numpy as np

from tests.flare_jax.models.naive_flare import feed_forward_activation, linear, merge_heads, norm, softmax, split_heads
from tests.flare_jax.models.naive_lamo import grid_convolution, pointwise_mlp, time_features, unified_positions

gelu_erf, silu = feed_forward_activation("gelu"), feed_forward_activation("silu")


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gated(gate):
    """Return the activation a·gate(g) of the two halves a, g."""
    return lambda x: x[..., : x.shape[-1] // 2] * gate(x[..., x.shape[-1] // 2 :])


POINTWISE = {
    "gelu": gelu_erf,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "silu": silu,
}
TS1 = {None: gelu_erf, "gelu": gelu_erf, "silu": silu, "swiglu": gated(silu)}
TS3 = {None: gelu_tanh, "gelu": gelu_tanh, "silu": silu, "swiglu": gated(silu), "geglu": gated(gelu_tanh)}


def attention(q, k, v):
    return softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1) @ v


def slice_means(weights, values):
    """Return Σ_n a_nm v_n / (Σ_n a_nm + 1e-5) of weights [B, H, N, M]."""
    return np.einsum("bhnm,bhnd->bhmd", weights, values) / (weights.sum(2)[..., None] + 1e-5)


def mix_slices(state, name, weights, values):
    """Transolver from the slice weights on: means, attention among slices with projections of all heads, read back."""
    tokens = slice_means(weights, values)
    q, k, v = (tokens @ state[f"{name}.to_{part}.weight"].T for part in "qkv")
    y = np.einsum("bhnm,bhmd->bhnd", weights, attention(q, k, v))
    return linear(state, f"{name}.to_out.0", merge_heads(y))


def physics_attention(state, name, x, heads, grid_shape):
    if grid_shape is None:
        points, values = (linear(state, f"{name}.in_project_{part}", x) for part in ("x", "fx"))
        temperature = state[f"{name}.temperature"]
    else:
        points, values = (grid_convolution(state, f"{name}.in_project_{part}", x, grid_shape) for part in ("x", "fx"))
        temperature = np.clip(state[f"{name}.temperature"], 0.1, 5)
    weights = softmax(linear(state, f"{name}.in_project_slice", split_heads(points, heads)) / temperature, -1)
    return mix_slices(state, name, weights, split_heads(values, heads))


def adaptive_attention(state, name, x, heads, uniforms):
    points = split_heads(linear(state, f"{name}.in_project_x", x), heads)
    hidden = gelu_erf(linear(state, f"{name}.proj_temperature.0", points))
    learned = gelu_erf(linear(state, f"{name}.proj_temperature.2", hidden))
    temperature = np.maximum(learned + state[f"{name}.bias"], 0.01)
    noise = 0 if uniforms is None else -np.log(-np.log(np.asarray(uniforms, np.float64) + 1e-8) + 1e-8)
    weights = softmax((linear(state, f"{name}.in_project_slice", points) + noise) / temperature, -1)
    return mix_slices(state, name, weights, points)


def embed(state, x, fx, time, act, options, always_placeholder):
    parts = [] if options.get("unified_pos_drop_input") else [x]
    if options.get("unified_pos"):
        features = unified_positions(options["grid_shape"], options["ref"])
        parts = [np.broadcast_to(features, (len(x), *features.shape)), *parts]
    parts = parts if fx is None else [*parts, np.asarray(fx, np.float64)]
    y = pointwise_mlp(state, "preprocess", np.concatenate(parts, -1), act)
    only_coordinates = fx is None and (not options.get("unified_pos") or options.get("unified_pos_drop_input"))
    y = y + state["placeholder"] if always_placeholder or only_coordinates else y
    return y if time is None else y + time_features(state, time, y.shape[-1])


def transolver(state, x, options, fx=None, time=None, uniforms=None, plus_plus=False):
    act = POINTWISE[options.get("act", "gelu")]
    y = embed(state, x, fx, time, act, options, plus_plus)
    for i in range(options["num_blocks"]):
        name = f"blocks.{i}"
        normed = norm(state, f"{name}.ln_1", y)
        if plus_plus:
            draws = None if uniforms is None else uniforms[i]
            y = y + adaptive_attention(state, f"{name}.Attn", normed, options["num_heads"], draws)
        else:
            y = y + physics_attention(state, f"{name}.Attn", normed, options["num_heads"], options.get("grid_shape"))
        y = y + pointwise_mlp(state, f"{name}.mlp", norm(state, f"{name}.ln_2", y), act)
    return linear(state, f"{name}.mlp2", norm(state, f"{name}.ln_3", y))


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def slice_scores(state, name, x, heads, options):
    """Return the scores [B, H, M, N] of the learned slice queries, and the values of the points."""
    if options.get("grid_shape") is None:
        projected = linear(state, f"{name}.wt_kv_proj", x)
    else:
        projected = grid_convolution(state, f"{name}.wt_kv_proj", x, options["grid_shape"])
    k, v = (split_heads(part, heads) for part in np.split(projected, 2, axis=-1))
    q = state[f"{name}.wtq"]
    q, k = (unit(q), unit(k)) if options.get("qk_norm") else (q, k)
    return q @ k.swapaxes(-1, -2), v


def ts1_attention(state, name, x, options):
    scores, v = slice_scores(state, name, x, options["num_heads"], options)
    weights = softmax(scores, 2).swapaxes(-1, -2)
    q, k, v = np.split(slice_means(weights, v) @ state[f"{name}.qkv_proj"], 3, axis=-1)
    return linear(state, f"{name}.to_out.0", merge_heads(weights @ attention(q, k, v)))


def ts3_attention(state, name, x, options):
    heads = options["num_heads"]
    scores, v = slice_scores(state, name, x, heads, options)
    b, h, m, n = scores.shape
    scores = (state[f"{name}.mix.weights"] @ scores.reshape(b, h * m, n)).reshape(b, h, m, n)
    if options.get("qk_norm"):
        weights = (scores * m / n).swapaxes(-1, -2)
        tokens = np.einsum("bhnm,bhnd->bhmd", weights, v)
    else:
        weights = softmax(scores, 2).swapaxes(-1, -2)
        tokens = slice_means(weights, v)
    t = norm(state, f"{name}.ln1", merge_heads(tokens))
    q, k, v = (split_heads(p, heads) for p in np.split(linear(state, f"{name}.mha.qkv_proj", t), 3, axis=-1))
    t = state[f"{name}.alphaC"] * t + linear(state, f"{name}.mha.out_proj", merge_heads(attention(q, k, v)))
    t = split_heads(norm(state, f"{name}.ln2", t), heads)
    return linear(state, f"{name}.out_proj", merge_heads(weights @ t))


def learned_slices(state, x, options, mixer, act):
    y = linear(state, "x_embedding.fc2", act(linear(state, "x_embedding.fc1", x)))
    for i in range(options["num_blocks"]):
        name = f"blocks.{i}"
        y = y + mixer(state, f"{name}.att", norm(state, f"{name}.ln1", y), options)
        hidden = act(linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.ln2", y)))
        y = y + linear(state, f"{name}.mlp.fc2", hidden)
    return linear(state, "final_layer.mlp", norm(state, "final_layer.ln", y))


def forward(model_type, state, x, options, **inputs):
    """Return the prediction of a model; `options` are ours, the `state` is the original's."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    x = np.asarray(x, np.float64)
    if model_type == "ts1_uncond":
        return learned_slices(state, x, options, ts1_attention, TS1[options.get("act")])
    if model_type == "ts3_uncond":
        return learned_slices(state, x, options, ts3_attention, TS3[options.get("act")])
    return transolver(state, x, options, plus_plus=model_type == "transolver++", **inputs)
