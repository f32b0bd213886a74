"""Kernels are read out of a trace of the profiler: those of streams of GPUs, numbered ones together."""

import jax
import pytest

from benchmarks import step_profile
from benchmarks.parallel_seeds import start_of_seeds
from benchmarks.step_profile import Kernel, kernels_of, profile
from configs import flare_elas, lm
from experiments.errors import UserError
from tests.program_server import run_program


def meta(kind: str, name: str, pid: int, tid: int = 0) -> dict:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def event(name: str, pid: int, tid: int, dur: float) -> dict:
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": 0.0, "dur": dur}


def test_kernels_are_those_on_streams_of_devices():
    trace = {
        "traceEvents": [
            meta("process_name", "/device:GPU:0 NVIDIA H200", 1),
            meta("thread_name", "Stream #13(Compute)", 1, 5),
            meta("thread_name", "XLA Ops", 1, 6),
            meta("process_name", "/host:CPU", 2),
            meta("thread_name", "Stream of the host", 2, 5),
            event("loop_add_fusion_3", 1, 5, 2.0),
            event("gather", 1, 5, 7.0),
            event("loop_add_fusion", 1, 5, 1.5),
            event("loop_add_fusion.12", 1, 5, 1.0),
            event("gather", 1, 6, 100.0),
            event("gather", 2, 5, 100.0),
        ]
    }
    assert kernels_of(trace) == [Kernel("gather", 1, 7.0), Kernel("loop_add_fusion", 3, 4.5)]


def test_a_cpu_is_refused_before_anything_is_compiled():
    result = run_program("benchmarks.step_profile", ["--config=configs/flare_elas.py", "--steps=2"])
    assert result.returncode == 2
    assert "this times programs of an NVIDIA GPU, but the device is a cpu; run it on a GPU" in result.stderr


def test_the_step_of_a_language_model_runs():
    """Here to its end, where the profiler sees no GPU; rows are made of bytes alone."""
    config = lm.get_config("model=published,size=tiny,smoke")
    config.train.batch_size = 2
    with pytest.raises(UserError, match="the profiler saw no kernels of a GPU"):
        profile(config, 2)
    with pytest.raises(UserError, match="--seeds=2 is for models of points"):
        profile(config, 2, seeds=2)
    config.data.tokenizer = "bpe"
    with pytest.raises(UserError, match="random rows are made of bytes alone; choose a config of text"):
        profile(config, 2)


def test_the_step_of_several_seeds_runs(monkeypatch):
    """Here to its end, where the profiler sees no GPU: the states that it trains have the seeds on their first axis."""
    config = flare_elas.get_config("smoke")
    config.model.update({"channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4})
    seen = []

    def start(*arguments):
        runner, state = start_of_seeds(*arguments)
        seen.append(jax.tree.leaves(state)[0].shape[0])
        return runner, state

    monkeypatch.setattr(step_profile, "start_of_seeds", start)
    with pytest.raises(UserError, match="the profiler saw no kernels of a GPU"):
        profile(config, 2, seeds=3)
    assert seen == [3]
