"""FLARE on binary_relation_composition: two steps in a graph, up to 64 tokens.

python -m experiments.lra --config=configs/lra_binary_relation_composition_flare.py
python -m experiments.lra --config=configs/lra_binary_relation_composition_flare.py:smoke   (seconds, CPU)
"""

from ml_collections import ConfigDict

from configs import lra
from configs.common import parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on a little generated data."""
    variant = parse_argument(argument)
    return lra.get_config("task=binary_relation_composition,model=flare" + (f",{variant}" if variant else ""))
