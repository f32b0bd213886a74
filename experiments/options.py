"""Checks of a whole configuration, before any data is read: ranges, and options given that would have no effect."""

import math
from collections.abc import Mapping
from typing import Any

from experiments.errors import UserError
from flare_jax.checks import check_seed

DTYPES = ("float32", "bfloat16")
PRECISIONS = ("default", "high", "highest")


def check_options(config: Any, given: Mapping[str, object]) -> None:
    """Raise UserError for values out of range and for options in `given` that the rest of `config` leaves unused."""
    _check_choices(config)
    _check_ranges(config)
    for name in given:
        reason = _unused_because(name, config)
        if reason:
            raise UserError(f"option config.{name} has no effect {reason}; leave it out")


def _check_choices(config: Any) -> None:
    for name, value, choices in (
        ("train.dtype", config.train.dtype, DTYPES),
        ("train.matmul_precision", config.train.matmul_precision, PRECISIONS),
        ("eval.weights", config.eval.weights, ("ema", "raw")),
    ):
        if value not in choices:
            raise UserError(f"{name}={value!r} is not known; choose one of {', '.join(choices)}")
    if config.eval.weights == "ema" and config.train.ema_decay == 0:
        raise UserError("eval.weights='ema' needs train.ema_decay above 0; set eval.weights=raw")
    seeds = config.train.seeds
    if not seeds or len(set(seeds)) != len(seeds):
        raise UserError(f"train.seeds={tuple(seeds)} must be one or more different integers")
    for seed in seeds:
        check_seed("a seed in train.seeds", seed)


def _check_ranges(config: Any) -> None:
    train, optimizer = config.train, config.optimizer
    at_least = {
        "train.epochs": (train.epochs, 0),
        "train.steps": (train.steps, 0),
        "train.batch_size": (train.batch_size, 1),
        "train.accumulation": (train.accumulation, 1),
        "train.clip_norm": (train.clip_norm, 0),
        "eval.every": (config.eval.every, 0),
        "eval.batch_size": (config.eval.batch_size, 1),
        "checkpoint.every": (config.checkpoint.every, 0),
        "checkpoint.keep_last": (config.checkpoint.keep_last, 1),
        "checkpoint.keep_best": (config.checkpoint.keep_best, 0),
        "optimizer.weight_decay": (optimizer.weight_decay, 0),
        "data.num_generate": (config.data.num_generate, 1),
    }
    for name, (value, smallest) in at_least.items():
        if not value >= smallest:
            raise UserError(f"{name}={value} must be at least {smallest}")
    for name in ("learning_rate", "eps"):
        if not (optimizer[name] > 0 and math.isfinite(optimizer[name])):
            raise UserError(f"optimizer.{name}={optimizer[name]} must be a positive number")
    beta2 = {} if optimizer.beta2 is None else {"optimizer.beta2": optimizer.beta2}
    for name, value in {"train.ema_decay": train.ema_decay, "optimizer.beta1": optimizer.beta1, **beta2}.items():
        if not 0 <= value < 1:
            raise UserError(f"{name}={value} must lie in [0, 1)")


# A single linear layer (depth -1) has no hidden width: each ratio needs the depth named beside it, where the model type
# has that option.
_DEPTHS = {
    "k_proj_mlp_ratio": "num_layers_k_proj",
    "v_proj_mlp_ratio": "num_layers_v_proj",
    "kv_proj_mlp_ratio": "num_layers_kv_proj",
    "kv_proj_ratio": "num_layers_kv_proj",
    "in_out_proj_ratio": "num_layers_in_out_proj",
    "ffn_mlp_ratio": "num_layers_ffn",
    "mlp_ratio": "num_layers_mlp",
    "gating_proj_mlp_ratio": "num_layers_gating_proj",
}
_SWITCHES = {
    "num_layers_gating_proj": "gating",
    "gating_proj_mlp_ratio": "gating",
    "ref": "unified_pos",
    "unified_pos_drop_input": "unified_pos",
}
_ONE_CYCLE = (
    "pct_start",
    "div_factor",
    "final_div_factor",
    "min_learning_rate",
    "three_phase",
    "anneal",
    "cycle_momentum",
    "base_momentum",
    "max_momentum",
)


def _unused_because(name: str, config: Any) -> str | None:
    """Return why option `name` has no effect in `config`, or None where it has one."""
    schedule, optimizer = config.schedule, config.optimizer
    one_cycle = schedule.name == "onecycle"
    cycled = one_cycle and schedule.cycle_momentum and optimizer.name != "muon"
    stream = config.data.get("stream")
    section, _, option = name.partition(".")
    if section == "model":
        return _unused_in_model(option, config.model)
    rules = (
        (section == "schedule" and option in _ONE_CYCLE, one_cycle, f"with schedule.name={schedule.name}"),
        (
            name in ("schedule.div_factor", "schedule.final_div_factor"),
            schedule.min_learning_rate == 0,
            "with schedule.min_learning_rate, which replaces it",
        ),
        (
            name in ("schedule.base_momentum", "schedule.max_momentum"),
            cycled,
            "because beta1 is not cycled",
        ),
        (name == "optimizer.beta1", not cycled, "because schedule.cycle_momentum replaces it"),
        (name == "optimizer.eps", optimizer.name != "lion", "with optimizer.name=lion"),
        (
            name in ("optimizer.muon_learning_rate", "optimizer.muon_momentum"),
            optimizer.name == "muon",
            f"with optimizer.name={optimizer.name}",
        ),
        (
            name in ("data.num_generate", "data.generate_seed", "data.resolution"),
            config.data.source != "files",
            "with data.source=files",
        ),
        (name == "data.memory_gib", stream == "auto", f"with data.stream={stream}"),
        (name == "data.cache", stream != "never", f"with data.stream={stream}"),
    )
    return next((reason for applies, used, reason in rules if applies and not used), None)


def _unused_in_model(option: str, model: Any) -> str | None:
    """Return why an option of the model has no effect beside its other options, or None where it has one."""
    depth, switch = _DEPTHS.get(option), _SWITCHES.get(option)
    if switch in model and not model[switch]:
        return f"with model.{switch}=False"
    if depth in model and model[depth] == -1:
        return f"with model.{depth}=-1"
    return None
