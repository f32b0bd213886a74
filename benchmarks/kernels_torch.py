"""Measures the PyTorch baselines of an op; runs in the process of a `benchmarks.worker.Worker`.

torch is imported with the first request, and its absence is an answer.
"""

import importlib.util
from collections.abc import Iterator
from typing import Any

from benchmarks.cases import Case, find_case
from benchmarks.programs import is_fatal
from benchmarks.worker import reason

ABSENT = "torch is not installed; install it to measure the baseline"
NO_GPU = "torch sees no GPU"


def unavailable() -> str:
    """Return why PyTorch cannot be measured, empty if it can."""
    if importlib.util.find_spec("torch") is None:
        return ABSENT
    import torch

    return "" if torch.cuda.is_available() else NO_GPU


def handle(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure the baselines `request["names"]` of the case {"op", "shape", "dtype"}, `budget` seconds a number.

    An answer has "forward" and "both", each {"seconds", "mebibytes"} or {"error"}, or else "error".
    """
    missing = unavailable()
    case = find_case(request["op"], request["shape"], request["dtype"])
    for name in request["names"]:
        if missing:
            yield {"name": name, "error": missing}
            continue
        results = {way: _measure(case, name, way, request["budget"]) for way in ("forward", "both")}
        fatal = any(is_fatal(result.get("error", "")) for result in results.values())
        yield {"name": name, "device": _device_line(), **results, **({"fatal": True} if fatal else {})}


def _device_line() -> str:
    from benchmarks.torch_timing import device_line

    return device_line()


def _measure(case: Case, name: str, way: str, budget: float) -> dict[str, Any]:
    """Return time and memory of one direction of one baseline, or why there are none."""
    import torch

    from benchmarks.torch_timing import release

    try:
        return _run(case, name, way, budget)
    except Exception as error:  # out of memory, a graph that cannot be captured: a row of the table
        return {"error": reason(error)}
    finally:
        torch.compiler.reset()
        release()


def _run(case: Case, name: str, way: str, budget: float) -> dict[str, Any]:
    import torch

    from benchmarks import torch_timing as timing
    from benchmarks.torch_ops import make_problem

    problem = make_problem(case, name)
    torch.backends.cuda.matmul.allow_tf32 = problem.tf32
    compiled = torch.compile(problem.function, dynamic=False) if name == "torch-compile" else problem.function
    if way == "forward":
        call = timing.forward_call(compiled, problem.inputs, problem.autocast)
    else:
        cotangents = timing.random_cotangents(problem.function, problem.inputs, problem.autocast)
        leaves = (*problem.inputs, *problem.parameters)
        call = timing.backward_call(compiled, problem.inputs, leaves, cotangents, problem.autocast)
    call()  # compiles, and lets the libraries allocate what they keep
    mebibytes = timing.peak_mebibytes(call)
    if name == "torch-graph":
        call = timing.captured(call)
    return {"seconds": timing.event_seconds(call, budget), "mebibytes": mebibytes}
