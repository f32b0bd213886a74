"""FLARE on mta-toy: which block holds the letters of the query? 302 tokens.

python -m experiments.lra --config=configs/lra_mta_toy_flare.py
python -m experiments.lra --config=configs/lra_mta_toy_flare.py:smoke   (seconds, CPU)
"""

from ml_collections import ConfigDict

from configs import lra
from configs.common import parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on a little generated data."""
    variant = parse_argument(argument)
    return lra.get_config("task=mta-toy,model=flare" + (f",{variant}" if variant else ""))
