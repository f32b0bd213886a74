"""PerceiverIO, LNO, GNOT, UPT and the looped FLARE models in numpy float64 from their PyTorch state_dict."""

import itertools

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

gelu = feed_forward_activation(None)
ACTIVATIONS = {
    "gelu": gelu,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "silu": activation("silu"),
}


def as_float64(state):
    return {name: np.asarray(value, np.float64) for name, value in state.items()}


def count(state, prefix):
    """Return the number of list elements under the prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def attend(q, k, v, heads):
    """Softmax attention with scale 1/√D on [B, N, C]."""
    q, k, v = (split_heads(part, heads) for part in (q, k, v))
    return merge_heads(softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1) @ v)


def bare_linear(state, name, x):
    """Linear layer with or without a bias."""
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)


def looped_flare(state, x, *, num_blocks, num_heads, scale, act, num_passes=1):
    """Loopy and unloopy: parts that a block lacks are those of the model."""
    state, function = as_float64(state), activation(act)
    x = residual_mlp(state, "in_proj", np.asarray(x, np.float64), function, input_residual=False)
    for i in list(range(num_blocks)) * num_passes:
        att = "att" if "att.latent_q" in state else f"blocks.{i}.att"
        ffn = next(name for name in ("ffn", f"blocks.{i}.ffn", f"blocks.{i}.mlp") if count(state, f"{name}."))
        x = x + gated_flare_attention(state, att, norm(state, f"blocks.{i}.norm1", x), num_heads, scale, act)
        x = x + residual_mlp(state, ffn, norm(state, f"blocks.{i}.norm2", x), function)
    return residual_mlp(state, "out_proj.1", norm(state, "out_proj.0", x), function, output_residual=False)


def gated_flare_attention(state, name, x, num_heads, scale, act):
    mixed = flare_attention(state, name, x, num_heads, scale, act)[0]
    if not count(state, f"{name}.g_proj."):
        return mixed
    # The gate stands before the output projection, which is undone here and applied again.
    weight, bias = state[f"{name}.out_proj.weight"], state[f"{name}.out_proj.bias"]
    heads = np.linalg.solve(weight, (mixed - bias).reshape(-1, mixed.shape[-1]).T).T.reshape(mixed.shape)
    gate = ACTIVATIONS["sigmoid"](residual_mlp(state, f"{name}.g_proj", x, activation(act)))
    return (heads * gate) @ weight.T + bias


def perceiver_io(state, x, *, num_heads, act):
    state, function = as_float64(state), activation(act)
    x = residual_mlp(state, "in_proj", np.asarray(x, np.float64), function, input_residual=False)
    normed = norm(state, "encoder.ln", x)
    queries = np.broadcast_to(state["encoder.latent_q"], (len(x), *state["encoder.latent_q"].shape))
    k, v = linear(state, "encoder.k_proj", normed), linear(state, "encoder.v_proj", normed)
    z = linear(state, "encoder.out_proj", attend(queries, k, v, num_heads))
    for i in range(count(state, "blocks.")):
        name = f"blocks.{i}"
        normed = norm(state, f"{name}.ln1", z)
        if f"{name}.ln3.weight" in state:
            k, v = np.split(bare_linear(state, f"{name}.att.kv_proj", norm(state, f"{name}.ln2", x)), 2, axis=-1)
            q, last = bare_linear(state, f"{name}.att.q_proj", normed), "ln3"
        else:
            q, k, v = np.split(bare_linear(state, f"{name}.att.qkv_proj", normed), 3, axis=-1)
            last = "ln2"
        z = z + linear(state, f"{name}.att.out_proj", attend(q, k, v, num_heads))
        hidden = function(linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.{last}", z)))
        z = z + linear(state, f"{name}.mlp.fc2", hidden)
    latents, points = norm(state, "decoder.ln1", z), norm(state, "decoder.ln2", x)
    q, k, v = (linear(state, f"decoder.{p}_proj", y) for p, y in (("q", points), ("k", latents), ("v", latents)))
    y = linear(state, "decoder.out_proj", attend(q, k, v, num_heads))
    return residual_mlp(state, "out_proj.mlp", norm(state, "out_proj.ln", y), function, output_residual=False)


def latent_mlp(state, name, x, act):
    r = act(linear(state, f"{name}.input", x))
    for j in range(count(state, f"{name}.hidden.")):
        r = r + act(linear(state, f"{name}.hidden.{j}", r))
    return linear(state, f"{name}.output", r)


def lno(state, x, y=None, *, num_heads, act="gelu"):
    state, function = as_float64(state), ACTIVATIONS[act]
    x = np.asarray(x, np.float64)
    y = x if y is None else np.asarray(y, np.float64)
    scores = latent_mlp(state, "attention_projector", latent_mlp(state, "trunk_projector", x, function), function)
    z = softmax(scores, 1).swapaxes(1, 2) @ latent_mlp(state, "branch_projector", y, function)
    for i in range(count(state, "attn_blocks.")):
        name = f"attn_blocks.{i}"
        normed = norm(state, f"{name}.ln1", z)
        q, k, v = (linear(state, f"{name}.self_attn.W{p}", normed) for p in "qkv")
        z = z + linear(state, f"{name}.self_attn.proj", attend(q, k, v, num_heads))
        hidden = function(linear(state, f"{name}.mlp.0", norm(state, f"{name}.ln2", z)))
        z = z + linear(state, f"{name}.mlp.2", hidden)
    return latent_mlp(state, "out_mlp", softmax(scores, 2) @ z, function)


def unified_positions(grid_shape, reference):
    axes = [np.linspace(0, 1, n) for n in grid_shape]
    points = np.array(list(itertools.product(*axes)))
    references = np.array(list(itertools.product(*[np.linspace(0, 1, reference)] * len(grid_shape))))
    return np.linalg.norm(points[:, None] - references, axis=-1)


def normalized_linear_attention(state, name, x, y, heads, attn_type):
    q, k, v = (
        split_heads(linear(state, f"{name}.{p}", tokens), heads)
        for p, tokens in (("query", x), ("key", y), ("value", y))
    )
    if attn_type == "l2":
        q, k = (part / np.abs(part).sum(-1, keepdims=True) for part in (q, k))
    else:
        q, k = softmax(q, -1), softmax(k, -1)
    divisor = (q * k.sum(2, keepdims=True)).sum(-1, keepdims=True)
    divisor = {"l1": divisor, "l2": np.abs(divisor), "galerkin": y.shape[1]}[attn_type]
    return linear(state, f"{name}.proj", merge_heads(q + q @ (k.swapaxes(-1, -2) @ v) / divisor))


def pointwise(state, names, x, act):
    for name in names[:-1]:
        x = act(linear(state, name, x))
    return linear(state, names[-1], x)


def gnot(
    state, x, fx=None, time=None, *, num_heads, act="gelu", attn_type="l1", grid_shape=None, ref=8, drop_input=False
):
    """GNOT; with a grid the unified position features are on."""
    state, function = as_float64(state), ACTIVATIONS[act]
    p = np.asarray(x, np.float64)
    coordinates, features = p, []
    if grid_shape is not None:
        table = unified_positions(grid_shape, ref)
        coordinates, features = np.broadcast_to(table, (len(p), *table.shape)), [] if drop_input else [p]
    features = features if fx is None else [*features, np.asarray(fx, np.float64)]

    def embed(name, inputs):
        return pointwise(state, [f"{name}.linear_pre.0", f"{name}.linear_post"], inputs, function)

    x, z = embed("preprocess_x", coordinates), embed("preprocess_z", np.concatenate([coordinates, *features], -1))
    z = z + state["placeholder"]
    if time is not None:
        half = z.shape[-1] // 2
        angles = np.asarray(time, np.float64).reshape(-1, 1) * 10000.0 ** (-np.arange(half) / half)
        waves = np.concatenate([np.cos(angles), np.sin(angles)], -1)
        z = z + pointwise(state, ["time_fc.0", "time_fc.2"], waves, ACTIVATIONS["silu"])[:, None]
    for i in range(count(state, "blocks.")):
        z = gnot_block(state, f"blocks.{i}", x, z, p, num_heads, function, attn_type)
    return pointwise(state, ["fc1", "fc2"], z, gelu)


def gnot_block(state, name, x, z, p, heads, act, attn_type):
    g = softmax(pointwise(state, [f"{name}.gatenet.{j}" for j in (0, 2, 4)], p, act), -1)

    def experts(which, y):
        names = [[f"{name}.{which}.{e}.{j}" for j in (0, 2)] for e in range(g.shape[-1])]
        return sum(g[..., e : e + 1] * pointwise(state, layers, y, act) for e, layers in enumerate(names))

    def attention(which, y, tokens):
        return normalized_linear_attention(state, f"{name}.{which}", y, tokens, heads, attn_type)

    a = x + attention("crossattn", norm(state, f"{name}.ln1", x), norm(state, f"{name}.ln2", z))
    a = a + norm(state, f"{name}.ln3", experts("moe_mlp1", a))
    normed = norm(state, f"{name}.ln4", a)
    a = a + attention("selfattn", normed, normed)
    return a + norm(state, f"{name}.ln5", experts("moe_mlp2", a))
