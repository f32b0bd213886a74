"""The FLARE models written down plainly in numpy float64 from their PyTorch state_dict, as a second opinion."""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def activation(name):
    """Return the activation of the residual MLPs."""
    if name == "silu":
        return lambda x: x / (1 + np.exp(-x))
    return lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def feed_forward_activation(name):
    """Return the activation of the latent blocks."""
    return activation(name) if name == "silu" else lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2)))


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state, name, x):
    """Layer norm if there is a bias, RMS norm otherwise, nothing where there are no parameters."""
    if f"{name}.weight" not in state:
        return x
    if f"{name}.bias" not in state:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1.1920929e-07) * state[f"{name}.weight"]
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def residual_mlp(state, name, x, act, input_residual=True, output_residual=True):
    if f"{name}.fc.weight" in state:
        y = linear(state, f"{name}.fc", x)
        return x + y if input_residual and output_residual and x.shape == y.shape else y
    u = act(linear(state, f"{name}.fc1", x))
    u = x + u if input_residual and x.shape == u.shape else u
    for layer in range(sum(f"{name}.fcs.{j}.weight" in state for j in range(10))):
        u = u + act(linear(state, f"{name}.fcs.{layer}", u))
    y = linear(state, f"{name}.fc2", u)
    return u + y if output_residual and u.shape == y.shape else y


def softmax(x, axis):
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def split_heads(x, heads):
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def merge_heads(x):
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def self_attention_block(state, name, x, heads, act):
    q, k, v = np.split(linear(state, f"{name}.att.qkv_proj", norm(state, f"{name}.norm1", x)), 3, axis=-1)
    q, k, v = (split_heads(part, heads) for part in (q, k, v))
    y = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -1) @ v
    x = x + linear(state, f"{name}.att.out_proj", merge_heads(y))
    hidden = act(linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x)))
    return x + linear(state, f"{name}.mlp.fc2", hidden)


def flare_attention(state, name, x, heads, scale, act_name):
    """Return the mixed points and the scaled logits."""
    act = activation(act_name)
    width = x.shape[-1] // heads
    q = state[f"{name}.latent_q"].reshape(-1, state[f"{name}.latent_q"].shape[-1], width)
    k = split_heads(residual_mlp(state, f"{name}.k_proj", x, act), heads)
    v = split_heads(residual_mlp(state, f"{name}.v_proj", x, act), heads)
    q, k = norm(state, f"{name}.q_norm", q), norm(state, f"{name}.k_norm", k)
    logits = scale * np.broadcast_to(q, (heads, *q.shape[1:])) @ k.swapaxes(-1, -2)
    z = softmax(logits, -1) @ v
    for block in range(sum(f"{name}.latent_blocks.{j}.norm1.weight" in state for j in range(10))):
        z = split_heads(
            self_attention_block(
                state, f"{name}.latent_blocks.{block}", merge_heads(z), heads, feed_forward_activation(act_name)
            ),
            heads,
        )
    y = softmax(logits, -2).swapaxes(-1, -2) @ z
    return linear(state, f"{name}.out_proj", merge_heads(y)), logits


def forward(state, x, *, num_blocks, num_heads, scale=1.0, act=None):
    """Return the prediction and the list of logits; `state` is a state_dict of any of the FLARE models."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    norms = ("ln1", "ln2") if "blocks.0.ln1.weight" in state else ("norm1", "norm2")
    head = ("out_proj.ln", "out_proj.mlp") if norms[0] == "ln1" else ("out_proj.0", "out_proj.1")
    function = activation(act)
    x = residual_mlp(state, "in_proj", np.asarray(x, np.float64), function, input_residual=False)
    scores = []
    for i in range(num_blocks):
        mixed, logits = flare_attention(
            state, f"blocks.{i}.att", norm(state, f"blocks.{i}.{norms[0]}", x), num_heads, scale, act
        )
        scores.append(logits)
        x = x + mixed
        x = x + residual_mlp(state, f"blocks.{i}.mlp", norm(state, f"blocks.{i}.{norms[1]}", x), function)
    return residual_mlp(state, head[1], norm(state, head[0], x), function, output_residual=False), scores
