"""LaMO written down plainly in numpy float64 from its PyTorch state_dict, as a second opinion."""

import itertools
import math

import numpy as np

from tests.flare_jax.mixers.naive_state_space import bidirectional_mamba2, hydra
from tests.flare_jax.models.naive_flare import feed_forward_activation, linear, merge_heads, norm, softmax, split_heads


def pointwise_mlp(state, name, x, act):
    return linear(state, f"{name}.linear_post", act(linear(state, f"{name}.linear_pre.0", x)))


def grid_convolution(state, name, x, grid_shape):
    """Cross-correlation of width 3 with zeros around the grid, tokens in C order."""
    field = np.pad(x.reshape(len(x), *grid_shape, -1), [(0, 0), *[(1, 1)] * len(grid_shape), (0, 0)])
    y = np.zeros((len(x), *grid_shape, len(state[f"{name}.bias"]))) + state[f"{name}.bias"]
    for offset in itertools.product(range(3), repeat=len(grid_shape)):
        window = tuple(slice(start, start + size) for start, size in zip(offset, grid_shape, strict=True))
        y += field[(slice(None), *window)] @ state[f"{name}.weight"][(..., *offset)].T
    return y.reshape(*x.shape[:2], -1)


def time_features(state, time, width):
    frequencies = np.array([10000 ** (-j / (width / 2)) for j in range(width // 2)])
    angles = np.asarray(time, np.float64).reshape(-1, 1) * frequencies
    hidden = linear(state, "time_fc.0", np.concatenate([np.cos(angles), np.sin(angles)], -1))
    return linear(state, "time_fc.2", hidden / (1 + np.exp(-hidden)))[:, None]


def unified_positions(grid_shape, reference):
    grid = list(itertools.product(*(np.linspace(0, 1, size) for size in grid_shape)))
    coarse = list(itertools.product(np.linspace(0, 1, reference), repeat=len(grid_shape)))
    return np.array([[math.dist(point, other) for other in coarse] for point in grid])


def slice_attention(state, name, x, heads, grid_shape, sizes):
    """Physics attention with the state-space layer among the slices."""
    if grid_shape is None:
        points, values = (linear(state, f"{name}.in_project_{part}", x) for part in ("x", "fx"))
    else:
        points, values = (grid_convolution(state, f"{name}.in_project_{part}", x, grid_shape) for part in ("x", "fx"))
    temperature = state[f"{name}.temperature"]
    temperature = temperature if grid_shape is None else np.clip(temperature, 0.1, 5)
    weights = softmax(linear(state, f"{name}.in_project_slice", split_heads(points, heads)) / temperature, -1)
    sums = np.einsum("bhng,bhnd->bhgd", weights, split_heads(values, heads))
    tokens = merge_heads(sums / (weights.sum(2)[..., None] + 1e-5))
    layer = hydra if grid_shape is None else bidirectional_mamba2
    tokens = split_heads(layer(state, f"{name}.hydra", tokens, **sizes), heads)
    return linear(state, f"{name}.to_out.0", merge_heads(np.einsum("bhng,bhgd->bhnd", weights, tokens)))


def forward(state, x, *, options, sizes, fx=None, time=None):
    """Return the prediction; `sizes` are state_dim, num_groups and head_dim of the state-space layer."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    x, grid_shape = np.asarray(x, np.float64), options.get("grid_shape")
    act = feed_forward_activation(options["act"])
    parts = [] if options.get("unified_pos_drop_input") else [x]
    if options.get("unified_pos"):
        features = unified_positions(grid_shape, options["ref"])
        parts = [np.broadcast_to(features, (len(x), *features.shape)), *parts]
    parts = parts if fx is None else [*parts, np.asarray(fx, np.float64)]
    y = pointwise_mlp(state, "preprocess", np.concatenate(parts, -1), act)
    if fx is None and (not options.get("unified_pos") or options.get("unified_pos_drop_input")):
        y = y + state["placeholder"]
    y = y if time is None else y + time_features(state, time, y.shape[-1])
    for i in range(options["num_blocks"]):
        block = f"blocks.{i}"
        mixed = norm(state, f"{block}.ln_1", y)
        y = y + slice_attention(state, f"{block}.Attn", mixed, options["num_heads"], grid_shape, sizes)
        y = y + pointwise_mlp(state, f"{block}.mlp", norm(state, f"{block}.ln_2", y), act)
    last = f"blocks.{options['num_blocks'] - 1}"
    return linear(state, f"{last}.mlp2", norm(state, f"{last}.ln_3", y))
