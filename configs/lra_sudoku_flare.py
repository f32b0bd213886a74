"""FLARE on sudoku: 81 cells, a digit for each.

python -m experiments.lra --config=configs/lra_sudoku_flare.py
python -m experiments.lra --config=configs/lra_sudoku_flare.py:smoke   (seconds, CPU)
"""

from ml_collections import ConfigDict

from configs import lra
from configs.common import parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on a little generated data."""
    variant = parse_argument(argument)
    return lra.get_config("task=sudoku,model=flare" + (f",{variant}" if variant else ""))
