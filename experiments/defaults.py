"""The options every experiment has, with the original's defaults; configs change what differs."""

from ml_collections import ConfigDict

from data_pipeline.registry import find_record
from experiments import sections
from experiments.schema import section


def pde_defaults(dataset: str) -> ConfigDict:
    """Return the defaults of a PDE experiment on `dataset`, without a model; raises DataError for an unknown name.

    Sections data and task also have the options of this data set alone.
    """
    record = find_record(dataset)
    config = training_defaults(dataset)
    config.data = section(sections.FieldDataOptions, name=dataset, n_train=1000, n_test=200)
    config.data.num_generate = record.num_generate
    config.data.update(section(record.all_data_options()))
    config.task = section(record.all_task_options())
    config.eval = section(sections.FieldEvalOptions)
    return config


def training_defaults(name: str) -> ConfigDict:
    """Return the defaults of the sections that every experiment has: how it is trained, evaluated and kept."""
    config = section(sections.RunOptions, name=name)
    config.train = section(sections.TrainOptions)
    config.optimizer = section(sections.OptimizerOptions)
    config.schedule = section(sections.ScheduleOptions)
    config.eval = section(sections.EvalOptions)
    config.checkpoint = section(sections.CheckpointOptions)
    config.mesh = section(sections.MeshOptions)
    return config
