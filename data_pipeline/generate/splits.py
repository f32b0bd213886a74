"""How generated samples are divided between training and test files."""


def held_out(num: int, test: int, total: int) -> int:
    """Return how many of `num` samples to hold out for testing: `test` in `total`, but one at least if num > 1."""
    return min(max(1, num * test // total), num - 1)
