"""Checks of a whole configuration, before any data is read: ranges, and options given that would have no effect."""

from collections.abc import Mapping
from typing import Any

from experiments.errors import UserError
from experiments.model_options import why_unused
from experiments.ranges import check_ranges
from experiments.schema import options_of_config
from flare_jax.checks import check_seed
from runtime.options import unused_because


def check_options(config: Any, given: Mapping[str, object]) -> None:
    """Raise UserError for values out of range and for options in `given` that the rest of `config` leaves unused."""
    check_ranges(config)
    if config.eval.weights == "ema" and config.train.ema_decay == 0:
        raise UserError("eval.weights='ema' needs train.ema_decay above 0; set eval.weights=raw")
    seeds = config.train.seeds
    if not isinstance(seeds, tuple) or not seeds or len(set(seeds)) != len(seeds):
        raise UserError(f"train.seeds={seeds!r} must be one or more different integers")
    for seed in seeds:
        check_seed("a seed in train.seeds", seed)
    for name in given:
        reason = _unused_because(name, config)
        if reason:
            raise UserError(f"option config.{name} has no effect {reason}; leave it out")


def _unused_because(name: str, config: Any) -> str | None:
    """Return why option `name` has no effect in `config`, or None where it has one."""
    schedule, optimizer = config.schedule, config.optimizer
    cycled = schedule.name == "onecycle" and schedule.cycle_momentum and optimizer.name != "muon"
    section, _, option = name.rpartition(".")
    if section == "model":
        return why_unused(option, config.model)
    known = options_of_config(config).get(name)
    reason = known and section and unused_because(known, config[section], f"{section}.")
    if reason:
        return f"with {reason}"
    rules = (
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
        (name == "train.min_steps", config.train.epochs > 0, f"with train.steps={config.train.steps}"),
        (name == "optimizer.beta1", not cycled, "because schedule.cycle_momentum replaces it"),
        (
            name in ("train.init_weights", "train.init_strict", "train.init_normalizers"),
            bool(config.train.init_from),
            "without train.init_from",
        ),
        (
            name in ("data.num_generate", "data.generate_seed", "data.resolution"),
            config.data.source != "files",
            "with data.source=files (data.source=generated generates)",
        ),
        (
            name == "data.hanging_edges",
            "edge_dim" in config.model,
            f"with model.type={config.model.type}, which sends no messages along edges",
        ),
        (
            name == "train.parallel_seeds" and config.train.parallel_seeds > 1,
            len(config.train.seeds) > 1,
            "with one seed in train.seeds",
        ),
    )
    return next((reason for applies, used, reason in rules if applies and not used), None)
