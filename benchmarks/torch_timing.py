"""Timing of PyTorch on a GPU: CUDA events, CUDA graphs, peak memory. Imported only where torch is known to be there."""

import contextlib
import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.timing import adaptive_seconds

WARM_UP_CALLS = 3


def autocast(dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Return the context of a forward pass; None leaves all dtypes alone.

    Casts of weights are not cached, because a captured graph must not reuse what was made outside of it.
    """
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast("cuda", dtype=dtype, cache_enabled=False)


def forward_call(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], dtype: torch.dtype | None
) -> Callable[[], Any]:
    """Return the forward pass without anything kept for a backward."""

    def call() -> Any:
        with torch.no_grad(), autocast(dtype):
            return function(*inputs)

    return call


def random_cotangents(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], dtype: torch.dtype | None
) -> list[torch.Tensor]:
    """Return random gradients of the outputs."""
    return [torch.randn_like(y) for y in _listed(forward_call(function, inputs, dtype)())]


def backward_call(
    function: Callable[..., Any],
    inputs: Sequence[torch.Tensor],
    leaves: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor],
    dtype: torch.dtype | None,
) -> Callable[[], Any]:
    """Return forward and backward to all leaves."""

    def call() -> Any:
        with autocast(dtype):
            outputs = function(*inputs)
        return outputs, torch.autograd.grad(_listed(outputs), leaves, cotangents)

    return call


def _listed(outputs: Any) -> list[torch.Tensor]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def captured(call: Callable[[], Any]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of the call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay(results: Any = results) -> None:  # the results live as long as the graph that writes them
        graph.replay()

    return replay


def event_seconds(call: Callable[[], Any], budget: float, longest: float = 4.0) -> float:
    """Return the median seconds per call between CUDA events; see `adaptive_seconds`."""

    def sample(calls: int) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3

    return adaptive_seconds(sample, budget, longest)


def peak_mebibytes(call: Callable[[], Any]) -> float:
    """Return the most memory that is allocated during one call, inputs included."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


def release() -> None:
    """Give unused memory back, for other processes."""
    gc.collect()
    torch.cuda.empty_cache()


def device_line() -> str:
    """Return device and version."""
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
