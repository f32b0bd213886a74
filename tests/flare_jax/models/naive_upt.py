"""UPT in numpy float64 from its PyTorch state_dict, with loops over supernodes and neighbours."""

import numpy as np

from tests.flare_jax.models.naive_flare import linear
from tests.flare_jax.models.naive_operators import as_float64, attend, count, gelu


def norm(state, name, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def embed(p, channels):
    """Return the sinusoidal embedding of one point."""
    axes = len(p)
    width = (channels - channels % axes) // axes
    width -= width % 2
    embedded = []
    for coordinate in p:
        angles = [coordinate * 10000.0 ** (-2 * i / width) for i in range(width // 2)]
        embedded += [np.sin(a) for a in angles] + [np.cos(a) for a in angles]
    return np.array(embedded + [0.0] * (channels - len(embedded)))


def neighbours(p, supernode, radius, max_degree):
    """Return the indices of the neighbours of one supernode, sorted by distance, then index."""
    distances = [np.sqrt(((point - p[supernode]) ** 2).sum()) for point in p]
    within = [n for n in range(len(p)) if distances[n] <= radius]
    return sorted(within, key=lambda n: (distances[n], n))[:max_degree]


def pool(state, features, p, supernodes, radius, max_degree):
    """Return the tokens of the supernodes of one sample."""
    name = "encoder.supernode_pooling"
    channels = state[f"{name}.input_proj.proj.bias"].size
    e = linear(state, f"{name}.input_proj.proj", features) + np.stack([embed(point, channels) for point in p])
    tokens = []
    for s in supernodes:
        messages = [
            linear(
                state,
                f"{name}.message.2.proj",
                gelu(linear(state, f"{name}.message.0.proj", np.concatenate([e[n], e[s]]))),
            )
            for n in neighbours(p, s, radius, max_degree)
        ]
        tokens.append(np.mean(messages, axis=0))
    return np.stack(tokens)


def mlp(state, name, x):
    return linear(state, f"{name}.fc2", gelu(linear(state, f"{name}.fc1", x)))


def self_blocks(state, part, x, heads):
    for i in range(count(state, f"{part}.blocks.")):
        name = f"{part}.blocks.{i}"
        q, k, v = np.split(linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x)), 3, axis=-1)
        x = x + linear(state, f"{name}.attn.proj", attend(q, k, v, heads))
        x = x + mlp(state, f"{name}.mlp", norm(state, f"{name}.norm2", x))
    return x


def cross_block(state, name, queries, tokens, heads):
    q = linear(state, f"{name}.attn.q", norm(state, f"{name}.norm1q", queries))
    k, v = np.split(linear(state, f"{name}.attn.kv", norm(state, f"{name}.norm1kv", tokens)), 2, axis=-1)
    queries = queries + linear(state, f"{name}.attn.proj", attend(q, k, v, heads))
    return queries + mlp(state, f"{name}.mlp", norm(state, f"{name}.norm2", queries))


def forward(state, x, supernodes, *, space_dim, num_heads, radius, max_degree, coord_min=None, coord_scale=1.0):
    """Return the prediction; `supernodes` are indices [B, S]."""
    state, x = as_float64(state), np.asarray(x, np.float64)
    positions = x[..., :space_dim]
    features = x[..., space_dim:] if x.shape[-1] > space_dim else positions
    p = (positions - (0.0 if coord_min is None else np.array(coord_min))) * coord_scale
    pooled = [pool(state, f, q, s, radius, max_degree) for f, q, s in zip(features, p, supernodes, strict=True)]
    tokens = self_blocks(state, "encoder", np.stack(pooled), num_heads)
    query = state["encoder.perceiver.query"]
    z = cross_block(
        state, "encoder.perceiver.perceiver", np.broadcast_to(query, (len(x), *query.shape)), tokens, num_heads
    )
    z = self_blocks(state, "decoder", self_blocks(state, "approximator", z, num_heads), num_heads)
    embedded = np.stack([[embed(point, query.shape[-1]) for point in sample] for sample in p])
    hidden = gelu(linear(state, "decoder.query_proj.0.proj", embedded))
    y = cross_block(state, "decoder.perc", linear(state, "decoder.query_proj.2.proj", hidden), z, num_heads)
    return linear(state, "decoder.pred.1.proj", norm(state, "decoder.pred.0", y))
