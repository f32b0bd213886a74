"""What is meant for a GPU is refused elsewhere in one sentence, before anything is compiled or a file is written."""

import importlib
from pathlib import Path

import pytest

from benchmarks.__main__ import benchmarks
from experiments.errors import UserError
from kernels import platform
from tests.program_server import run_program

FOLDER = Path(importlib.import_module("benchmarks").__file__).parent
FOR_A_GPU = [name for name, question in benchmarks().items() if "GPU" in question]
# Their trials, on any device, are other tests.
TRIALS = {"kernels": "--quick", "scaling": "--quick", "zoo": "--smoke", "search": None, "mixer_kernels": None}
TRIALS |= {"product_rates": None, "step_profile": None}

pytestmark = pytest.mark.skipif(platform() == "cuda", reason="here is a GPU")


def test_those_for_a_gpu_are_found():
    assert {*TRIALS, "causal_lm", "clouds", "devices", "train_step"} <= set(FOR_A_GPU)


@pytest.mark.parametrize("name", FOR_A_GPU)
def test_a_cpu_is_refused_at_once(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = (FOLDER / f"{name}.py").read_text()
    config = ["--config=configs/flare_elas.py"] if "cli.define_flags()" in source else []
    config += ["--study=studies/mixers.py"] if "define_selection()" in source else []
    trial = TRIALS.get(name, "--any_device")
    remedy = "run it on a GPU" + (f", or a trial of small sizes with {trial}" if trial else "")
    sentence = f"this times programs of an NVIDIA GPU, but the device is a cpu; {remedy}"
    if "exit_status(main)" in source:
        with pytest.raises(UserError, match=sentence):
            importlib.import_module(f"benchmarks.{name}").main([])
        assert not list(tmp_path.iterdir())
        return
    result = run_program(f"benchmarks.{name}", config)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
