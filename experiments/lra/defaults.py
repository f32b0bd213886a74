"""The options of sequence experiments with the original's defaults."""

from ml_collections import ConfigDict

from data_pipeline.generate import GENERATORS, load_generator
from data_pipeline.sequence.registry import find_task
from experiments.defaults import training_defaults


def lra_defaults(task: str) -> ConfigDict:
    """Return the defaults of an experiment on a task, without a model; raises ValueError for an unknown task."""
    entry = find_task(task)
    config = training_defaults(entry.name)
    config.data = ConfigDict(
        {
            "name": entry.name,
            "dir": "data",
            "source": "files",  # files: never generate | auto: files, else generated | generated: never public files
            "num_generate": load_generator(GENERATORS[entry.generator]).num,
            "generate_seed": 42,  # that of the original's generators
            "n_train": 0,  # 0: all
            "n_test": 0,  # 0: all; of each other split
            **entry.options,
        }
    )
    config.train.update({"epochs": 0, "steps": 10_000, "batch_size": 32, "ema_decay": 0.0, "dtype": "bfloat16"})
    config.optimizer.update({"learning_rate": 5e-4, "weight_decay": 1e-4, "beta2": 0.98})
    config.schedule.final_div_factor = 1e-2
    # `train_samples` of the training set are evaluated at the end; 0 takes all.
    config.eval = ConfigDict({"every": 0, "batch_size": 32, "weights": "raw", "train_samples": 10_000})
    return config


def add_recursion(config: ConfigDict) -> None:
    """Add the options that only runs of the recursive model have."""
    with config.unlocked():
        config.train.halt_weight = 0.0  # of the loss of the halting head, which the original leaves untrained
        config.eval.until_halt = False  # stop where the halting head says so, instead of after num_steps
