import math

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.common import pde_config
from experiments.errors import UserError
from experiments.training.schedules import OneCycle, build_schedules, compiled


@pytest.mark.parametrize(
    ("step", "rate", "beta1"), [(0, 0.04, 0.95), (9, 1.0, 0.85), (54, 0.500002, 0.90), (99, 4.0e-6, 0.95)]
)
def test_onecycle_has_the_tabulated_values(step, rate, beta1):
    cycle = OneCycle(peak=1.0, steps=100, pct_start=0.1, div_factor=25, final_div_factor=1e4)
    np.testing.assert_allclose(cycle.learning_rate(step), rate, rtol=1e-6)
    np.testing.assert_allclose(cycle.momentum(step), beta1, rtol=1e-6)


def _written_out(step, peak, steps, pct, div, final_div, three_phase, anneal):
    """The definition once more, in plain Python and float64."""
    low, end = peak / div, peak / div / final_div
    first, last = pct * steps - 1, steps - 1
    phases = [(0, first, low, peak), (first, last, peak, end)]
    if three_phase:
        middle = 2 * pct * steps - 2
        phases = [(0, first, low, peak), (first, middle, peak, low), (middle, last, low, end)]
    for begin, stop, before, after in phases:
        if step <= stop or stop == last:
            x = (step - begin) / (stop - begin)
            if anneal == "linear":
                return before + (after - before) * x
            return after + (before - after) / 2 * (1 + math.cos(math.pi * x))


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize(
    ("steps", "pct", "div", "final_div"), [(1000, 0.1, 1e4, 1e4), (37, 0.23, 25, 10), (501, 0.45, 3, 2)]
)
def test_onecycle_equals_its_definition(steps, pct, div, final_div, three_phase, anneal):
    cycle = OneCycle(1e-3, steps, pct, div, final_div, three_phase, anneal)
    wanted = [_written_out(k, 1e-3, steps, pct, div, final_div, three_phase, anneal) for k in range(steps)]
    got = np.array([float(x) for x in cycle.learning_rate(np.arange(steps))])
    np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=1e-10)


def test_onecycle_keeps_tiny_ends_exact():
    cycle = OneCycle(peak=1e-3, steps=250_000, pct_start=0.1, div_factor=1e4, final_div_factor=1e4)
    np.testing.assert_allclose(cycle.learning_rate(0), 1e-7, rtol=1e-6)
    np.testing.assert_allclose(cycle.learning_rate(249_999), 1e-11, rtol=1e-6)


def _section(**changes):
    schedule = ConfigDict(pde_config("elasticity").schedule)
    for name, value in changes.items():
        schedule[name] = value
    return schedule


def test_minimum_learning_rate_replaces_both_factors():
    rate, _ = build_schedules(_section(min_learning_rate=1e-6), 1e-3, 100, 10)
    np.testing.assert_allclose([rate(0), rate(99)], 1e-6, rtol=1e-6)


def test_constant_and_cosine():
    rate, beta1 = build_schedules(_section(name="constant"), 1e-3, 100, 10)
    assert beta1 is None
    np.testing.assert_allclose([rate(0), rate(99)], 1e-3, rtol=1e-6)
    for name in ("cosine", "cosine_restarts"):
        rate, _ = build_schedules(_section(name=name), 1e-3, 100, 10)
        np.testing.assert_allclose(rate(0), 1e-3, rtol=1e-6)
        np.testing.assert_allclose(rate(9), rate(0))  # advances once per epoch
        np.testing.assert_allclose(rate(50), 5e-4, rtol=1e-6)


def test_no_momentum_cycle_where_it_is_switched_off():
    assert build_schedules(_section(cycle_momentum=False), 1e-3, 100, 10)[1] is None


@pytest.mark.parametrize("changes", [{"name": "oncecycle"}, {"anneal": "cosine"}])
def test_bad_options_are_named(changes):
    with pytest.raises(UserError, match=str(next(iter(changes.values())))):
        build_schedules(_section(**changes), 1e-3, 100, 10)


@pytest.mark.parametrize("name", ["onecycle", "constant", "cosine"])
def test_equal_schedules_share_a_program(name):
    def rate(peak):
        return compiled(build_schedules(_section(name=name), peak, 100, 10)[0])

    assert rate(1e-3) is rate(1e-3)
    assert rate(1e-3) is not rate(2e-3)
    assert float(rate(2e-3)(50)[0]) == 2 * float(rate(1e-3)(50)[0])
