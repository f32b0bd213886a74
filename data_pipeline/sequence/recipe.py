"""How models are trained on a task, as parts of its record: options by their names in the configuration."""

from typing import Any

Settings = dict[str, Any]

FULL_PRECISION: Settings = {"train.dtype": "float32"}
AVERAGED: Settings = {"train.ema_decay": 0.999, "eval.weights": "ema"}


def training(
    batch_size: int, learning_rate: float, weight_decay: float, *, steps: int = 0, epochs: int = 0
) -> Settings:
    """Return the length of a run, in steps or in epochs, its batch and the settings of its optimizer."""
    return {
        "train.steps": steps,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "eval.batch_size": batch_size,
        "optimizer.learning_rate": learning_rate,
        "optimizer.weight_decay": weight_decay,
    }


def size(num_blocks: int, channel_dim: int, num_heads: int) -> Settings:
    """Return the size of a model."""
    return {"model.num_blocks": num_blocks, "model.channel_dim": channel_dim, "model.num_heads": num_heads}


def drop(rate: float, *sites: str) -> Settings:
    """Return the rate of dropout at sites such as "emb", "attn" and "proj"."""
    return {f"model.{site}_drop": rate for site in sites}


def flarepp(latents: int, learning_rate: float, weight_decay: float, ratio: float = 4.0) -> Settings:
    """Return settings of FLARE++ (arXiv 2608.11519), which has its own on every task.

    Its projections start near the identity here; --config.model.identity_init=False starts them near 0, as the
    original's do.
    """
    return {
        "model.num_latents": latents,
        "model.ffn_mlp_ratio": ratio,
        "model.num_heads": 8,
        "optimizer.learning_rate": learning_rate,
        "optimizer.weight_decay": weight_decay,
    }
