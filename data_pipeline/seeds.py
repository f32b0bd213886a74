"""Seeds of random inputs."""

from numbers import Integral

from data_pipeline.errors import DataError

LARGEST_SEED = 2**32 - 1


def check_seed(option: str, seed: object) -> int:
    """Return a seed of 32 bits, raise DataError for any other.

    Generators draw sample i from the pair of seed and i as words of 32 bits, where those of a longer seed run into i.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
        raise DataError(f"{option} must be an integer from 0 to {LARGEST_SEED}, got {seed!r}")
    return int(seed)
