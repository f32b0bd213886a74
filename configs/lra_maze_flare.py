"""FLARE on maze: 30 x 30 cells, the shortest path.

python -m experiments.lra --config=configs/lra_maze_flare.py
python -m experiments.lra --config=configs/lra_maze_flare.py:smoke   (seconds, CPU)
"""

from ml_collections import ConfigDict

from configs import lra
from configs.common import parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on a little generated data."""
    variant = parse_argument(argument)
    return lra.get_config("task=maze,model=flare" + (f",{variant}" if variant else ""))
