"""Which width gives a model so many parameters? Prints options for comparisons at equal size, as in studies/mixers.py:

    python -m benchmarks.widths --models=flare,flarepp,luna --parameters=592641 [--data=elasticity]

The width is the multiple of the heads that comes nearest, and where feed-forward parts have no residuals of their own
their hidden width makes up for the rest.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from benchmarks.command import exit_status, names_in
from benchmarks.timing import print_table
from benchmarks.train_step import random_dataset
from configs import pde
from configs.common import update
from experiments.pdebench import models
from flare_jax.params import count_parameters, split
from runtime.command import Parser, integer

MOST_PER_HEAD = 64


def match_parameters(config: ConfigDict, parameters: int) -> dict[str, Any]:
    """Set the width of the model, and the ratio of its feed-forward parts, for so many parameters; return them."""
    candidates = [config.model.num_heads * width for width in range(1, MOST_PER_HEAD + 1)]
    low, high = 0, len(candidates) - 1
    while high - low > 1:  # the number grows with the width
        middle = (low + high) // 2
        low, high = (middle, high) if _count(config, channel_dim=candidates[middle]) < parameters else (low, middle)
    nearest = min(
        (candidates[low], candidates[high]), key=lambda width: abs(_count(config, channel_dim=width) - parameters)
    )
    options = {"channel_dim": nearest}
    update(config.model, options)
    option = next((name for name in ("ffn_mlp_ratio", "mlp_ratio") if name in config.model), None)
    ratio = option and config.model[option]
    if ratio not in (None, 1.0):  # at ratio 1 their residuals act
        present, larger = _count(config), _count(config, **{option: ratio + 1})
        matched = ratio + (parameters - present) / (larger - present)
        options[option] = round(max(matched, 0.25), 3)
        update(config.model, options)
    return options


def parameter_count(config: ConfigDict) -> int:
    """Return the number of parameters of the configuration's model."""
    return _count(config)


def _count(config: ConfigDict, **changes: Any) -> int:
    section = ConfigDict(config.to_dict())
    update(section.model, changes)
    dataset = random_dataset(config.data.name, 2)
    chosen = models.model_options(section.model, models.data_facts(dataset))
    model = nnx.eval_shape(lambda: models.build(section, chosen, dataset.c_in, dataset.c_out, 0))
    return count_parameters(split(model)[1])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = Parser(prog="python -m benchmarks.widths", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=names_in, required=True, help="model types, separated by commas")
    parser.add_argument("--parameters", type=integer(1), required=True, help="how many the models should have")
    parser.add_argument("--data", default="elasticity", help="data set whose recipes are taken")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Print the options of every model."""
    options = parse(arguments)
    lines = []
    for name in options.models:
        config = pde.get_config(f"model={name},data={options.data}")
        matched = match_parameters(config, options.parameters)
        given = " ".join(f"--config.model.{option}={value}" for option, value in matched.items())
        lines.append((name, given, f"{parameter_count(config):,}"))
    print_table(("model", "options", "parameters"), lines)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
