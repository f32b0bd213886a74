"""The options of sequence experiments with the original's defaults."""

from ml_collections import ConfigDict

from data_pipeline.generate import GENERATORS, load_generator
from data_pipeline.sequence.registry import find_task
from experiments import sections
from experiments.defaults import training_defaults
from experiments.schema import section


def lra_defaults(task: str) -> ConfigDict:
    """Return the defaults of an experiment on a task, without a model; raises ValueError for an unknown task."""
    entry = find_task(task)
    config = training_defaults(entry.name)
    num = load_generator(GENERATORS[entry.generator]).num
    # The seed is that of the original's generators.
    config.data = section(sections.GeneratedDataOptions, name=entry.name, num_generate=num, generate_seed=42)
    config.data.update(section(entry.options))
    config.train.update({"epochs": 0, "steps": 10_000, "batch_size": 32, "ema_decay": 0.0, "dtype": "bfloat16"})
    config.optimizer.update({"learning_rate": 5e-4, "weight_decay": 1e-4, "beta2": 0.98})
    config.schedule.final_div_factor = 1e-2
    config.eval = section(sections.TokenEvalOptions, batch_size=32, weights="raw")
    return config


def add_recursion(config: ConfigDict) -> None:
    """Add the options that only runs of the recursive model have."""
    config.train = section(sections.RecursiveTrainOptions, **config.train)
    config.eval = section(sections.RecursiveEvalOptions, **config.eval)
