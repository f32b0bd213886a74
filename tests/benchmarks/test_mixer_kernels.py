"""The benchmark of the mixer's kernels: its rows, and names that it does not know."""

import json

import pytest

from benchmarks import mixer_kernels
from experiments.errors import UserError
from kernels import platform
from kernels.flare_mixer.shapes import MixerShape


def test_every_way_has_a_row(tmp_path, monkeypatch, capsys):
    """Kernels of Mosaic GPU cannot be compiled for a CPU, and their rows say so."""
    monkeypatch.setitem(mixer_kernels.SHAPES, "tiny", MixerShape(1, 40, 1, 16, 8))
    monkeypatch.setattr(mixer_kernels, "BUDGET_SECONDS", 1e-4)
    monkeypatch.setattr(mixer_kernels, "check_gpu", lambda: None)
    output = tmp_path / "kernels.json"
    flags = ["--shape=tiny", "--dtype=bfloat16", "--kernel=gather", f"--output={output}"]
    assert mixer_kernels.main(flags) == 0
    first, *rest = json.loads(output.read_text())["rows"]
    assert (first["launch"], first["difference"]) == ("triton", "0.0e+00")
    assert float(first["ms"]) > 0
    assert [row["ms"] for row in rest] == ["-"] * len(mixer_kernels.READ)
    assert all(row["difference"] for row in rest)
    assert "triton" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--shape=million", "--shape has 'million'; give some of elasticity"),
        ("--kernel=", "--kernel has ''; give some"),
    ],
)
def test_unknown_names_are_told_at_once(flag, message):
    with pytest.raises(ValueError, match=message):
        mixer_kernels.main([flag])


@pytest.mark.skipif(platform() == "cuda", reason="here is a GPU")
def test_a_cpu_is_refused_at_once():
    with pytest.raises(
        UserError, match="this times programs of an NVIDIA GPU, but the device is a cpu; run it on a GPU"
    ):
        mixer_kernels.main([])
