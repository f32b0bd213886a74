import pytest

from benchmarks.cases import CASES, Case
from benchmarks.roofline import PEAK_BYTES, floor

MILLION = Case("flare_mixer", "million_m128", "bfloat16")


def test_the_mixer_at_a_million_points_is_limited_by_exponentials():
    both = floor(MILLION, "both")
    assert both.bytes == 12 * 1_000_000 * 8 * 16 * 2
    assert both.exponentials == 5 * 1_000_000 * 8 * 128
    assert both.flops == 2 * 12 * 16 * 1_000_000 * 8 * 128
    assert both.limit == "exponentials"
    assert both.seconds == pytest.approx(5.12e9 / 3.7e12)
    forward = floor(MILLION, "forward")
    assert (forward.bytes, forward.exponentials) == (4 * 256e6, 2 * 1.024e9)
    assert forward.seconds == pytest.approx(2.048e9 / 3.7e12)


def test_float32_products_count_three_times():
    case = Case("flare_mixer", "million_m128", "float32")
    assert floor(case, "both").times["products"] == pytest.approx(3 * 2 * 12 * 16 * 1.024e9 / 495e12)
    assert floor(case, "both").bytes == 2 * floor(MILLION, "both").bytes


def test_triple_attention_at_half_a_million_points():
    case = Case("triple_attention", "points_500k_d32", "bfloat16")
    both = floor(case, "both")
    assert both.times["products"] == pytest.approx(1.59e-3, rel=5e-3)  # as kernels/triple_attention/README.md
    assert both.bytes == 17 * 500_000 * 8 * 32 * 2
    assert floor(case, "forward").times["memory"] == pytest.approx(0.46e-3, rel=5e-3)


def test_causal_linear_attention_moves_every_array_once():
    case = Case("causal_linear_attention", "long_d64", "bfloat16")
    array = 131_072 * 8 * 64 * 2
    assert floor(case, "forward").bytes == 4 * array
    assert floor(case, "both").bytes == 11 * array
    assert floor(case, "both").flops == 2 * 7 * 131_072 * 8 * 64 * 64
    assert floor(case, "both").seconds == pytest.approx(11 * array / PEAK_BYTES)


def test_decays_are_read_in_both_directions():
    case = Case("gated_linear_attention", "gla_15m", "bfloat16")
    heads = 4 * 32_768 * 4
    assert floor(case, "forward").bytes == heads * (2 * 48 * 2 + 2 * 96 * 2 + 48 * 4)
    assert floor(case, "both").bytes == heads * (6 * 48 * 2 + 5 * 96 * 2 + 3 * 48 * 4)


def test_causal_flare_counts_both_walks():
    both = floor(Case("causal_flare", "long_m64", "bfloat16"), "both")
    assert both.exponentials == 6 * 131_072 * 8 * 64
    assert both.bytes == 12 * 131_072 * 8 * 64 * 2


def test_the_mixer_of_flarepp_adds_a_gather():
    shape = ("million_m128", "bfloat16")
    works = {op: floor(Case(op, *shape), "both") for op in ("gather", "flare_mixer", "flarepp_mixer")}
    assert works["flarepp_mixer"].exponentials == 7 * 1_000_000 * 8 * 128
    for name in ("bytes", "exponentials", "flops"):
        parts = [getattr(works[op], name) for op in ("gather", "flare_mixer")]
        assert getattr(works["flarepp_mixer"], name) == sum(parts)


def test_the_layer_adds_mlps_to_the_mixer():
    both, mixer = floor(Case("flare_layer", "million_m128", "bfloat16"), "both"), floor(MILLION, "both")
    assert both.exponentials - mixer.exponentials == 2 * 8 * 1_000_000 * 128
    assert both.flops - mixer.flops == 3 * 2 * 11 * 1_000_000 * 128**2
    assert both.bytes == 13 * 1_000_000 * 128 * 2


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_every_case_has_a_floor_and_backward_costs_more(case):
    assert 0 < floor(case, "forward").seconds < floor(case, "both").seconds
