"""The sequence model in plain numpy float64 from the original's state_dict, as a second opinion."""

import numpy as np

from tests.flare_jax.models import naive_attention
from tests.flare_jax.models.naive_flare import feed_forward_activation, linear, norm

gelu = feed_forward_activation(None)


def sinusoids(length, width):
    table = np.empty((length, width))
    for i in range(width // 2):
        angle = np.arange(length) * 10000.0 ** (-2 * i / width)
        table[:, 2 * i], table[:, 2 * i + 1] = np.sin(angle), np.cos(angle)
    return table


def positions(state, length, width):
    if "pos_emb.pos_scale" in state:
        return state["pos_emb.pos_scale"] * sinusoids(length, width)
    return state["pos_emb.pe.weight"][:length] if "pos_emb.pe.weight" in state else 0.0


def pool_tokens(x, pool, mask):
    if pool == "cls":
        return x[:, 0]
    if mask is None:
        return x.mean(1) if pool == "mean" else x.max(1)
    rows = [x[i, mask[i]] for i in range(len(x))]
    return np.stack([row.mean(0) if pool == "mean" else row.max(0) for row in rows])


def forward(state, ids, mask, backend, options, *, documents=1, token_level=False):
    """Return the logits; `options` are those of the model and its backend."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    ids = np.asarray(ids)
    pool = options.get("pool", "mean")
    samples = len(ids)
    ids = ids.reshape(samples * documents, -1)
    mask = None if mask is None else np.asarray(mask).reshape(ids.shape)
    table = state["token_emb.token_embed.weight"]
    if options.get("zero_pad_embedding", True) and options.get("pad_id") is not None:
        table = np.where(np.arange(len(table))[:, None] == options["pad_id"], 0, table)
    x = table[ids]
    if pool == "cls" and not token_level:
        x = np.concatenate((np.broadcast_to(state["cls_token"], (len(x), 1, x.shape[-1])), x), axis=1)
        mask = None if mask is None else np.pad(mask, ((0, 0), (1, 0)), constant_values=True)
    added = positions(state, *x.shape[1:])
    rope = options.get("rope_mode", "interleaved") if options.get("pos_embed", "sin") == "rope" else None
    for i in range(options["num_blocks"]):
        x = naive_attention.block(state, f"blocks.{i}", x + added, backend, options, mask, rope)
    x = norm(state, "final_norm", x)
    x = x if token_level else pool_tokens(x, pool, mask if options.get("masked_pool", True) else None)
    x = x.reshape(samples, -1) if documents > 1 else x
    x = norm(state, "cls_proj.1", x)
    if "cls_proj.2.weight" in state:
        return linear(state, "cls_proj.2", x)
    return linear(state, "cls_proj.2.2", gelu(linear(state, "cls_proj.2.0", x)))
