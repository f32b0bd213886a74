import threading
import time

import pytest

from data_pipeline.streaming.prefetch import Prefetcher


def test_results_come_in_order():
    def load(number):
        time.sleep(0.002 * (number % 3))
        return number**2

    with Prefetcher(load, range(20), ahead=4, workers=4) as results:
        assert list(results) == [number**2 for number in range(20)]
        with pytest.raises(StopIteration):
            next(results)


def test_no_more_than_asked_for_is_ahead():
    started = []
    with Prefetcher(started.append, range(100), ahead=3, workers=2) as results:
        for taken in range(1, 6):
            next(results)
            assert len(started) <= taken + 3


def test_work_goes_on_while_the_consumer_computes():
    done = threading.Event()

    def load(number):
        if number == 1:
            done.set()
        return number

    with Prefetcher(load, range(3), ahead=1, workers=1) as results:
        assert next(results) == 0
        assert done.wait(5)  # sample 1 was loaded although nobody asked for it yet


def test_errors_arrive_where_the_result_would():
    def load(number):
        if number == 2:
            raise OSError("gone")
        return number

    with Prefetcher(load, range(4), ahead=4, workers=2) as results:
        assert next(results) == 0
        assert next(results) == 1
        with pytest.raises(OSError, match="gone"):
            next(results)


def test_closing_abandons_what_is_pending():
    started = []
    results = Prefetcher(lambda number: (started.append(number), time.sleep(0.02)), range(50), ahead=20, workers=1)
    next(results)
    results.close()
    assert len(started) < 10


@pytest.mark.parametrize("numbers", [{"ahead": 0, "workers": 1}, {"ahead": 1, "workers": 0}])
def test_numbers_that_make_no_sense(numbers):
    with pytest.raises(ValueError, match="must be at least 1"):
        Prefetcher(int, [], **numbers)
