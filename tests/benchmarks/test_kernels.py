import ast
import json
from pathlib import Path

import jax
import pytest

from benchmarks import kernels
from benchmarks.__main__ import benchmarks
from benchmarks.cases import BASELINES, CASES, IMPLEMENTATIONS, QUICK, SHAPES, Case, select_cases
from benchmarks.kernels import HEADER, Results, main, milliseconds, names_in, parse, why_failed
from benchmarks.kernels_jax import OPS, handle
from benchmarks.roofline import floor

FOLDER = Path(kernels.__file__).parent
ELASTICITY = Case("flare_mixer", "elasticity", "float32")


def timed(name, seconds, **more):
    return {"name": name, "forward": {"seconds": seconds, "mebibytes": 1.0}, **more}


def row_of(results, name):
    ((_, rows),) = results.tables()
    return next(dict(zip(range(len(HEADER)), row, strict=True)) for row in rows if row[2].strip("*") == name)


def test_rows_have_times_floors_and_ratios(tmp_path):
    results = Results(str(tmp_path))
    results.add(ELASTICITY, timed("torch", 2e-3, both={"seconds": 8e-3, "mebibytes": 5.4}, device="GPU, torch 1"))
    results.add(ELASTICITY, timed("pallas", 5e-4, both={"seconds": 2e-3, "mebibytes": 3.4}, device="GPU", default=True))
    row = row_of(results, "pallas")
    forward, both = floor(ELASTICITY, "forward").seconds, floor(ELASTICITY, "both").seconds
    assert list(row.values())[:3] == ["elasticity", "float32", "pallas*"]
    assert list(row.values())[3:7] == ["0.5000", milliseconds(forward), f"{forward / 5e-4:.0%}", "4.0x"]
    assert list(row.values())[7:11] == ["2.00", milliseconds(both), f"{both / 2e-3:.0%}", "4.0x"]
    assert list(row.values())[11:] == ["memory", "3", ""]
    assert row_of(results, "torch")[6] == "1.0x"
    assert results.device == "GPU, torch 1; GPU"


def test_errors_are_rows_with_the_reason(tmp_path):
    results = Results(str(tmp_path))
    results.add(ELASTICITY, {"name": "torch", "error": "torch is not installed"})
    results.add(ELASTICITY, timed("xla", 1e-3, both={"error": "out of memory: needs 90 GiB", "mebibytes": 92160.0}))
    results.add(ELASTICITY, {"name": "cudnn", "unserved": "cudnn takes no float32"})
    torch, xla = row_of(results, "torch"), row_of(results, "xla")
    assert (torch[3], torch[7], torch[13]) == ("-", "-", "torch is not installed")
    assert (xla[3], xla[6], xla[7], xla[13]) == ("1.00", "-", "-", "both: out of memory: needs 90 GiB")
    ((_, rows),) = results.tables()
    assert len(rows) == 2
    assert len(json.loads((tmp_path / "kernels.json").read_text())["rows"]) == 3
    assert "| xla | 1.00 |" in (tmp_path / "kernels.md").read_text()


def test_one_reason_is_given_once():
    assert why_failed({"forward": {"error": "a"}, "both": {"error": "a"}}) == "a"


def test_rows_of_one_case_stand_together(tmp_path):
    results = Results(str(tmp_path))
    darcy = Case("flare_mixer", "darcy", "float32")
    for case in (ELASTICITY, darcy):
        results.add(case, timed("torch", 1.0))
    for case in (ELASTICITY, darcy):
        results.add(case, timed("xla", 1.0))
    ((_, rows),) = results.tables()
    assert [row[0] for row in rows] == ["elasticity", "elasticity", "darcy", "darcy"]


@pytest.mark.parametrize("op", SHAPES)
def test_every_op_is_measured(op):
    """The first implementation of every op runs in both directions; what cannot serve a case is said to."""
    names = [IMPLEMENTATIONS[op][0], *(name for name in IMPLEMENTATIONS[op] if name == "cudnn")]
    request = {"op": op, "shape": QUICK, "dtype": "float32", "names": names, "budget": 1e-4}
    first, *others = handle(request)
    assert first["forward"]["seconds"] > 0
    assert first["both"]["seconds"] > 0
    assert first["both"]["mebibytes"] > first["forward"]["mebibytes"] > 0
    assert all("takes float16 or bfloat16" in answer["unserved"] for answer in others)


def test_a_kernel_that_fails_is_an_answer(monkeypatch):
    def forward(case, implementation, operands):
        if implementation == "pallas":
            raise RuntimeError("no kernel today")
        return operands[-1]

    monkeypatch.setitem(OPS, "flare_mixer", OPS["flare_mixer"]._replace(forward=forward))
    request = {"op": "flare_mixer", "shape": QUICK, "dtype": "float32", "names": ["xla", "pallas"], "budget": 1e-4}
    xla, pallas = handle(request)
    assert "seconds" in xla["forward"]
    assert pallas["forward"]["error"] == "RuntimeError: no kernel today"


def test_the_program_runs_from_end_to_end(tmp_path, capsys):
    arguments = ["--quick", "--op=causal_linear_attention", "--implementations=xla,torch", f"--out={tmp_path}"]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "kernels.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["torch", "xla"]
    assert rows[1]["both"]["seconds"] > 0
    assert rows[1]["default"] == (jax.default_backend() == "cpu")
    assert "fwd+bwd ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op=flare"], "op is 'flare'; give one or more of flare_mixer, gather"),
        (["--shape=huge"], "shape is 'huge'; give one or more of million_m128"),
        (["--implementations=cuda"], "implementation is 'cuda'; give one or more of cudnn"),
        (["--op=triple_attention", "--shape=darcy"], "no case has all of op triple_attention, shape darcy"),
    ],
)
def test_bad_options_are_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert message in capsys.readouterr().err


def test_cases_are_selected():
    assert {case.name for case in select_cases(("flare_mixer",), dtypes=("float32",))} >= {"million_m2048", "darcy"}
    assert QUICK not in {case.name for case in select_cases()}
    assert [case.op for case in select_cases(quick=True)] == list(SHAPES)


def test_cases_name_shapes_and_baselines():
    assert len({case.label for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.name in SHAPES[case.op]
        assert set(case.baselines) <= set(BASELINES)
    assert set(SHAPES) == set(IMPLEMENTATIONS) == set(OPS)


def test_every_op_has_a_pytorch_baseline():
    """Read from the source, because PyTorch is not needed to run the tests."""
    tree = ast.parse((FOLDER / "torch_ops.py").read_text())
    problems = next(x for x in tree.body if isinstance(x, ast.AnnAssign) and x.target.id == "PROBLEMS")
    assert {key.value for key in problems.value.keys} == set(SHAPES)


def test_torch_is_imported_only_where_it_is_needed():
    for name in ("kernels", "kernels_jax", "kernels_torch", "scaling", "scaling_jax", "scaling_torch"):
        tree = ast.parse((FOLDER / f"{name}.py").read_text())
        tops = [x for x in tree.body if isinstance(x, (ast.Import, ast.ImportFrom))]
        names = {alias.name for x in tops if isinstance(x, ast.Import) for alias in x.names}
        names |= {x.module for x in tops if isinstance(x, ast.ImportFrom)}
        assert not any(module.startswith(("torch", "benchmarks.torch_")) for module in names), name


def test_the_listing_names_every_program():
    found = benchmarks()
    assert {"kernels", "scaling", "search", "train_step"} <= set(found)
    assert all(found.values())
    assert "worker" not in found


def test_lists_are_split_at_commas():
    assert names_in("a,b,") == ("a", "b")
