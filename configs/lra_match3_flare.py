"""FLARE on match3: triples with sum 0 modulo 37, up to 35 tokens.

python -m experiments.lra --config=configs/lra_match3_flare.py
python -m experiments.lra --config=configs/lra_match3_flare.py:smoke   (seconds, CPU)
"""

from ml_collections import ConfigDict

from configs import lra
from configs.common import parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on a little generated data."""
    variant = parse_argument(argument)
    return lra.get_config("task=match3,model=flare" + (f",{variant}" if variant else ""))
