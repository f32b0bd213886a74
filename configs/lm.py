"""Language models on your text, or on associative recall: causal FLARE, gated linear attention, a transformer.

    python -m experiments.lm --config=configs/lm.py:model=recommended,size=15M --config.data.path=books
    python -m experiments.lm --config=configs/lm.py:model=transformer,size=recall128,recall --config.data.pairs=16
    python -m experiments.lm --config=configs/lm.py:model=recommended,size=tiny,smoke --config.data.path=README.md

Models: `published` (causal FLARE as its language model is known), `recommended` (with short convolutions, normalised
keys, forgetting, reads of its own and a gate of the output, without positions), `stablemax`, `state` (a signed state
that decays), `gla`, and `transformer`. Sizes are those of `flare_jax.models.language.SIZES`. `smoke` trains for a few
steps.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import parse_arguments, update
from experiments.lm.defaults import lm_defaults
from experiments.schema import default_values
from flare_jax.checks import check_choice
from flare_jax.models.language import LANGUAGE_MODELS, size_options

_OPTIONS: dict[str, Any] = {"short_conv": True, "qk_norm": True, "separate_read": True, "rope": False}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "published": ("causal_flare", {}),
    "recommended": ("causal_flare", {**_OPTIONS, "forget": True, "out_gate": True}),
    "stablemax": ("causal_flare", {**_OPTIONS, "gather": "stablemax"}),
    "state": ("causal_flare", {**_OPTIONS, "forget": True, "gather": "state"}),
    "gla": ("gla", {}),
    "transformer": ("causal_attention", {}),
}
# Tokens of a row and peak learning rate, by size.
_TRAINING = {
    "tiny": (256, 2e-3),
    "5M": (512, 1e-3),
    "15M": (1024, 1e-3),
    "15M_bpe": (1024, 1e-3),
    "50M": (2048, 1e-3),
    "124M": (2048, 1e-3),
    "340M": (2048, 6e-4),
}


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration for `model=<model>,size=<size>[,recall][,smoke]`."""
    chosen = parse_arguments(argument, names=("model", "size"), switches=("recall", "smoke"))
    model, size = chosen["model"], chosen["size"]
    check_choice("model", model, MODELS)
    model_type, options = MODELS[model]
    config = lm_defaults(chosen["recall"])
    config.model = ConfigDict({"type": model_type, **default_values(LANGUAGE_MODELS[model_type].options())})
    update(config.model, {**size_options(model_type, size), **options})
    if size.endswith("_bpe") and not chosen["recall"]:
        config.data.tokenizer = "bpe"
    config.data.length, config.optimizer.learning_rate = _TRAINING.get(size, (256, 1e-3))
    parts = ("lm", model, size, *(name for name in ("recall", "smoke") if chosen[name]))
    config.name = "_".join(parts)
    if chosen["recall"]:
        config.data.length = 256
        update(config.train, {"steps": 0, "epochs": 32, "batch_size": 128, "dtype": "float32"})
        config.optimizer.learning_rate = 1e-3
    if chosen["smoke"]:
        _shrink(config)
    return config


def _shrink(config: ConfigDict) -> None:
    """Make the run a matter of seconds on a CPU."""
    update(config.model, {"channel_dim": 32, "num_blocks": 1, "num_heads": 2, "mlp_width": 64})
    if "num_latents" in config.model:
        config.model.num_latents = 8
    config.data.length = 32
    if config.data.name == "recall":
        update(config.data, {"vocab_size": 32, "n_train": 256, "n_test": 64})
    update(config.train, {"epochs": 0, "steps": 20, "batch_size": 8, "dtype": "float32"})
    update(config.eval, {"batch_size": 8, "train_samples": 16, "every": 10})
    config.checkpoint.every = 10
