"""Values of options that no configuration may have."""

import pytest

from configs import flare_elas
from experiments.options import check_options


@pytest.mark.parametrize(
    ("seed", "words"),
    [(2**32, "a seed in train.seeds is 4294967296 but only the integers below 4294967296 are"), (-1, "is -1 but must")],
)
def test_seeds_that_would_be_others(seed, words):
    config = flare_elas.get_config("smoke")
    config.train.seeds = (0, seed)
    with pytest.raises(ValueError, match=words):
        check_options(config, {})
    config.train.seeds = (0, 2**32 - 1)
    check_options(config, {})
