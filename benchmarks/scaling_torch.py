"""Times one layer in PyTorch over many numbers of points; runs in the process of a `benchmarks.worker.Worker`.

The same quantity as in `benchmarks.scaling_jax`, eager under autocast, as the original measured it.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.kernels_torch import unavailable
from benchmarks.programs import is_fatal
from benchmarks.timing import growth
from benchmarks.worker import reason

CHANNELS, HEADS = 128, 8


def handle(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answer as `benchmarks.scaling_jax.handle` does, for the mixers "softmax" and "flare"."""
    missing = unavailable()
    before: tuple[int, float] | None = None
    for points in map(int, request["names"]):
        error = missing
        if not error and before is not None:
            error = growth(before, points, 2 if request["mixer"] == "softmax" else 1, request["longest"])
        answer = {"error": error} if error else _time(points, request)
        before = (points, answer["seconds"]) if "seconds" in answer else before
        fatal = {"fatal": True} if is_fatal(answer.get("error", "")) else {}
        yield {"name": str(points), **answer, **fatal}


def _time(points: int, request: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.torch_timing import device_line, release

    try:
        return {"device": device_line(), **_run(points, request)}
    except Exception as error:  # out of memory: a point that is missing in the figure
        return {"error": reason(error)}
    finally:
        release()


def _run(points: int, request: dict[str, Any]) -> dict[str, Any]:
    import torch

    from benchmarks import torch_timing as timing
    from benchmarks.torch_layers import FlareLayer, SoftmaxLayer

    torch.manual_seed(0)
    softmax = request["mixer"] == "softmax"
    layer = SoftmaxLayer(CHANNELS, HEADS) if softmax else FlareLayer(CHANNELS, HEADS, request["size"])
    layer = layer.cuda()
    x = torch.randn(1, points, CHANNELS, device="cuda", requires_grad=True)
    target = torch.randn(1, points, CHANNELS, device="cuda")
    dtype = None if request["dtype"] == "float32" else getattr(torch, request["dtype"])
    leaves = [x, *layer.parameters()]

    def call() -> tuple[torch.Tensor, ...]:
        with timing.autocast(dtype):
            loss = torch.nn.functional.mse_loss(layer(x).float(), target)
        return torch.autograd.grad(loss, leaves)

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    seconds = timing.event_seconds(call, request["budget"])
    return {"seconds": seconds, "mebibytes": torch.cuda.max_memory_allocated() / 2**20}
