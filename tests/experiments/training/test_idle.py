"""The count of seconds for which a device waits for its next batch."""

import time

import pytest

from experiments.training.idle import IdleClock


class Results:
    """Results of a step that ends some seconds after it was made."""

    def __init__(self, seconds: float):
        self._end = time.perf_counter() + seconds

    def block_until_ready(self) -> "Results":
        time.sleep(max(0.0, self._end - time.perf_counter()))
        return self


def batches(seconds: float):
    """Yield batches that each take some time."""
    while True:
        time.sleep(seconds)
        yield None


@pytest.mark.parametrize(
    ("step", "batch", "least", "most"), [(0.2, 0.02, 0.02, 0.1), (0.0, 0.05, 0.15, 0.4), (0.03, 0.06, 0.12, 0.4)]
)
def test_only_the_time_without_work_is_counted(step, batch, least, most):
    """The first batch is waited for in any case, the others as far as the step before has ended."""
    clock, source = IdleClock(), batches(batch)
    for _ in range(3):
        clock.take(source)
        clock.started(Results(step))
    assert 0.9 * least < clock.seconds() < most
    assert clock.seconds() == 0.0
    clock.close()
