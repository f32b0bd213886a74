"""Finding the options of a configuration: by section and program, with those of its data set and of its model."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from data_pipeline.registry import DATASETS
from data_pipeline.sequence.registry import ALIASES, TASKS
from experiments import sections
from experiments.model_options import known_options, program_of
from runtime.options import Config, Option, options_of

_PLACEHOLDER_KINDS = (int, float, bool, str)


def section(options: type[Config] | Mapping[str, Option], **changes: Any) -> ConfigDict:
    """Return a section of a configuration with all `options` at their defaults but for `changes`."""
    known = options if isinstance(options, Mapping) else options_of(options)
    return ConfigDict({**default_values(known), **changes})


def default_values(options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the default of every option, an empty place of its type where that is None or missing."""
    return {name: _placeholder(o) if o.required or o.default is None else o.default for name, o in options.items()}


def _placeholder(known: Option) -> Any:
    """Return the empty place of an option; what is no plain kind of value is given as text."""
    return config_dict.placeholder(next((kind for kind in _PLACEHOLDER_KINDS if kind in known.kinds), str))


def options_of_config(config: ConfigDict) -> dict[str, Option]:
    """Return the options of a configuration that it has a value of, by their dotted names, which they also have."""
    found = {}
    for name, known in _by_section(config):
        part = config.get(name, {}) if name else config
        for short, one in known.items():
            if short in part:
                dotted = f"{name}.{short}" if name else short
                found[dotted] = dataclasses.replace(one, name=dotted)
    return found


def _by_section(config: ConfigDict) -> Iterator[tuple[str, Mapping[str, Option]]]:
    program = program_of(config)
    yield "", options_of(sections.RunOptions)
    yield "train", options_of(sections.RecursiveTrainOptions)
    yield "optimizer", options_of(sections.OptimizerOptions)
    yield "schedule", options_of(sections.ScheduleOptions)
    evaluations = {
        "pdebench": sections.FieldEvalOptions,
        "lra": sections.RecursiveEvalOptions,
        "lm": sections.TextEvalOptions,
    }
    yield "eval", options_of(evaluations[program])
    yield "checkpoint", options_of(sections.CheckpointOptions)
    yield "mesh", options_of(sections.MeshOptions)
    name = config.data.get("name")
    if program == "lm":
        yield "data", options_of(sections.RecallDataOptions if name == "recall" else sections.TextDataOptions)
    elif program == "lra":
        task = TASKS.get(ALIASES.get(name, name))
        yield "data", {**options_of(sections.GeneratedDataOptions), **(task.options if task else {})}
    else:
        record = DATASETS.get(name)
        yield "data", {**options_of(sections.FieldDataOptions), **(record.all_data_options() if record else {})}
        yield "task", record.all_task_options() if record else {}
    yield "model", known_options(config.model)
