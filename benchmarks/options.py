"""Configurations and counts of benchmarks whose flags are those of the experiments."""

from typing import Any

from absl import flags

from benchmarks.command import ANY_DEVICE, ANY_DEVICE_HELP, check_gpu, check_output
from experiments import cli, program
from experiments.options import check_options

FLAGS = flags.FLAGS


def checked_config(example: str) -> Any:
    """Return the configuration that --config names; raises UserError where it, or --output, is of no use."""
    config = program.given_config(example)
    check_options(config, cli.overrides())
    check_output(FLAGS.output)
    return config


def define_any_device() -> None:
    """Define the flag that `check_device` looks at."""
    flags.DEFINE_bool(ANY_DEVICE, False, ANY_DEVICE_HELP)


def check_device(here: str | None = None) -> None:
    """Raise UserError where there is no NVIDIA GPU, unless --any_device is given; `here` is as in `check_gpu`."""
    if not FLAGS[ANY_DEVICE].value:
        check_gpu(f"--{ANY_DEVICE}", here)


def define_counts(**defaults: tuple[int, str]) -> None:
    """Define flags for positive integers, each with its default and its help."""
    for name, (default, text) in defaults.items():
        flags.DEFINE_integer(name, default, text, lower_bound=1, upper_bound=10**6)
