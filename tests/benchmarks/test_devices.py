import csv

import pytest

from benchmarks.devices_cases import Work, cases_of, rows_of, works_of
from benchmarks.devices_cost import Link, predicted
from tests.experiments.programs import TINY, environment
from tests.program_server import run_program

EIGHT = environment(XLA_FLAGS="--xla_force_host_platform_device_count=8")
MODEL = [option for option in TINY if "data." not in option and "train." not in option]


def benchmark(*arguments):
    return run_program("benchmarks.devices", [*arguments, "--any_device"], env=EIGHT)


def test_steps_are_timed_counted_and_compared(tmp_path):
    sizes = ("--points=64", "--devices=1,4", "--scalings=strong", "--sharded=points", "--steps=2", "--repeats=1")
    result = benchmark(*MODEL, *sizes, f"--out={tmp_path}")
    assert result.returncode == 0, result.stderr
    with (tmp_path / "devices.csv").open(newline="") as file:
        one, four = csv.DictReader(file)
    assert [(row["devices"], row["batch"], row["points"]) for row in (one, four)] == [
        ("1", "1", "64"),
        ("4", "1", "64"),
    ]
    assert float(four["efficiency"]) > 0
    assert float(four["loss_differs_by"]) < 1e-4
    assert float(four["grad_norm_differs_by"]) < 1e-4
    # Beside the formula's there are the sums of the loss and of its scale, a few numbers.
    assert float(one["bytes"]) == float(one["formula_bytes"]) == 0
    assert 0 <= float(four["bytes"]) - float(four["formula_bytes"]) <= 64
    text = (tmp_path / "devices.md").read_text()
    assert "| 4 | 1 x 64 |" in text
    assert "A sum over 4 devices" in text
    assert "| 1024 |" in text
    assert (tmp_path / "devices.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--devices=1,16"], "--devices has '16'; give numbers from 1 to 8, the devices that are here"),
        (["--devices=8", "--points=1001"], "--points=1001 or a batch of 8 does not split over 8 devices"),
        (["--scalings=strong,fast"], "--scalings has 'fast'"),
        (["--models=flare", *MODEL], "--models=flare does not go with --config"),
        (["--config=configs/flare_darcy.py"], "data set darcy is a grid"),
        ([*MODEL, "--config.model.num_heads=3"], "error: num_heads 3 does not divide channel_dim 8; choose"),
    ],
)
def test_wrong_options(tmp_path, arguments, sentence):
    result = benchmark(*arguments, f"--out={tmp_path}")
    assert result.returncode == 2
    assert sentence in result.stderr


def test_lines_and_what_they_are_compared_with():
    cases = cases_of(["flare"], [2, 1], 100, ["strong", "weak"], ["points", "batch"])
    strong, weak = Work("flare", 1, 100, 1, 2), Work("flare", 2, 100, 2, 1)
    assert len(works_of(cases_of(["flare"], [4], 100, ["strong"], ["points"]))) == 1  # too large for one device
    works = works_of(cases)
    assert len(works) == len(set(works)) == 8
    assert {strong, weak, strong._replace(along_points=1), weak._replace(data=1)} <= {*works}
    assert Work("flare", 2, 50, 2, 1) in works  # one sample for each device

    def answer(seconds, loss):
        return {"step_ms": 1e3 * seconds, "loss": loss, "grad_norm": 1.0}

    one = Work("flare", 1, 100)
    answers = {one: answer(1.0, 2.0), strong: answer(0.625, 2.5), weak: answer(1.25, 1.0)}
    rows = {(row["scaling"], row["sharded"], row["devices"]): row for row in rows_of(cases, answers)}
    assert rows["strong", "points", 2]["efficiency"] == rows["weak", "batch", 2]["efficiency"] == 0.8
    assert rows["strong", "points", 2]["loss_differs_by"] == 0.25
    assert rows["weak", "batch", 2]["loss_differs_by"] is None  # two samples were not measured on one device
    failed = {**answers, strong: {"error": "out of memory"}}
    rows = {(row["scaling"], row["sharded"], row["devices"]): row for row in rows_of(cases, failed)}
    assert rows["strong", "points", 2]["error"] == "out of memory"


def test_predicted_efficiencies():
    link = Link(bandwidth=1e9, latency=1e-5)
    assert link.seconds(1000, 1) == 0
    assert link.seconds(1_000_000, 4) == pytest.approx(2e-5 + 1.5e-3)
    efficiencies = {devices: (weak, strong) for devices, weak, strong in predicted([0] * 9, 9e-4, link)}
    assert list(efficiencies) == [2**exponent for exponent in range(1, 11)]
    assert efficiencies[2] == pytest.approx((10 / 11, 10 / 12))
    assert efficiencies[1024] == pytest.approx((0.5, 1 / 1025))
