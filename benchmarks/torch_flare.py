"""The PyTorch baseline: the same FLARE network, loss and optimizer step, written with public PyTorch calls.

Attention runs through `scaled_dot_product_attention`, matrix products in TF32, float32 or bfloat16 as the config says,
and the step is AdamW with the same decay groups, clipping, OneCycle and an average of the weights. Needs torch, and a
GPU for all but `cpu_training_step`.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.torch_timing import autocast, captured


class ResidualMLP(nn.Module):
    """Linear, `layers` residual layers, Linear; residuals at both ends where widths allow."""

    def __init__(
        self, c_in: int, c_hidden: int, c_out: int, layers: int, residual_in: bool, residual_out: bool
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(c_in, c_hidden), nn.Linear(c_hidden, c_out)
        self.inner = nn.ModuleList(nn.Linear(c_hidden, c_hidden) for _ in range(layers))
        self.residual_in = residual_in and c_in == c_hidden
        self.residual_out = residual_out and c_hidden == c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., c_in] to [..., c_out]."""
        hidden = F.gelu(self.first(x), approximate="tanh")
        hidden = x + hidden if self.residual_in else hidden
        for layer in self.inner:
            hidden = hidden + F.gelu(layer(hidden), approximate="tanh")
        return hidden + self.last(hidden) if self.residual_out else self.last(hidden)


class Block(nn.Module):
    """Pre-norm FLARE block."""

    def __init__(self, channels: int, heads: int, latents: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, channels // heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.latents = nn.Parameter(0.1 * torch.randn(channels, latents))
        self.k_proj = ResidualMLP(channels, channels, channels, 3, True, True)
        self.v_proj = ResidualMLP(channels, channels, channels, 3, True, True)
        self.out_proj = nn.Linear(channels, channels)
        self.mlp = ResidualMLP(channels, channels, channels, 3, True, True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, N, C] to [B, N, C]."""
        normed = self.norm1(x)
        query = self.latents.reshape(1, self.heads, -1, self.head_dim).expand(len(x), -1, -1, -1)
        key, value = (
            part.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
            for part in (self.k_proj(normed), self.v_proj(normed))
        )
        latents = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        mixed = F.scaled_dot_product_attention(key, query, latents, scale=1.0)
        x = x + self.out_proj(mixed.transpose(1, 2).flatten(-2))
        return x + self.mlp(self.norm2(x))


class FLARE(nn.Module):
    """The whole network, [B, N, c_in] -> [B, N, c_out]."""

    def __init__(self, c_in: int, c_out: int, channels: int, blocks: int, heads: int, latents: int) -> None:
        super().__init__()
        self.in_proj = ResidualMLP(c_in, channels, channels, 2, False, True)
        self.blocks = nn.Sequential(*(Block(channels, heads, latents) for _ in range(blocks)))
        self.norm = nn.LayerNorm(channels)
        self.out_proj = ResidualMLP(channels, channels, c_out, 2, True, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict the normalised field."""
        return self.out_proj(self.norm(self.blocks(self.in_proj(x))))


class Variant(NamedTuple):
    """How the step runs: under torch.compile or not, launched call by call or replayed as one CUDA graph."""

    compiled: bool
    graph: bool


VARIANTS = {
    "PyTorch eager": Variant(False, False),
    "PyTorch compiled": Variant(True, False),
    "PyTorch as one CUDA graph": Variant(False, True),
    "PyTorch compiled, as one CUDA graph": Variant(True, True),
}


def make_training_step(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, total_steps: int, dtype: torch.dtype | None, graph: bool
) -> Callable[[], None]:
    """Return one optimizer step on a fixed batch: forward, relative L2, backward, clip, AdamW, OneCycle, average.

    With `graph` all but the schedule is one CUDA graph. It holds beta1 as a number, so that only the learning rate, a
    tensor, is cycled then.
    """
    decayed = [value for name, value in model.named_parameters() if value.ndim > 1]
    plain = [value for name, value in model.named_parameters() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-5}, {"params": plain, "weight_decay": 0.0}]
    rate = torch.tensor(1e-3, device="cuda") if graph else 1e-3
    optimizer = torch.optim.AdamW(groups, lr=rate, capturable=graph)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        1e-3,
        total_steps=total_steps,
        pct_start=0.1,
        div_factor=1e4,
        final_div_factor=1e4,
        cycle_momentum=not graph,
    )
    parameters = [*decayed, *plain]
    average = [value.detach().clone() for value in parameters]

    def update() -> None:
        optimizer.zero_grad()
        with autocast(dtype):
            predicted = model(x)
        error = (predicted.float() - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
        error.mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, [value.detach() for value in parameters], 1e-3)

    run = captured(update) if graph else update

    def step() -> None:
        run()
        schedule.step()

    return step


def time_training_step(
    *,
    batch: int,
    points: int,
    c_in: int,
    c_out: int,
    channels: int,
    blocks: int,
    heads: int,
    latents: int,
    dtype: str,
    tf32: bool,
    variant: Variant,
    steps: int = 50,
    repeats: int = 5,
) -> tuple[float, float]:
    """Return (median seconds per step, peak GiB) of the step, computed in `dtype`, float32 products with `tf32`."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    precision = None if dtype == "float32" else getattr(torch, dtype)
    torch.manual_seed(0)
    model: nn.Module = FLARE(c_in, c_out, channels, blocks, heads, latents).cuda()
    x, y = torch.rand(batch, points, c_in, device="cuda"), torch.rand(batch, points, c_out, device="cuda")
    run = torch.compile(model) if variant.compiled else model
    step = make_training_step(run, x, y, 10 + steps * (repeats + 1), precision, variant.graph)
    for _ in range(10):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) / steps)
    return sorted(times)[len(times) // 2], torch.cuda.max_memory_allocated() / 2**30


def cpu_training_step(
    *, batch: int, points: int, c_in: int, c_out: int, channels: int, blocks: int, heads: int, latents: int, steps: int
) -> Callable[[], None]:
    """Return the step on the CPU, in float32 and eager mode, of a run of `steps` steps."""
    torch.manual_seed(0)
    model = FLARE(c_in, c_out, channels, blocks, heads, latents)
    x, y = torch.rand(batch, points, c_in), torch.rand(batch, points, c_out)
    return make_training_step(model, x, y, steps, None, graph=False)
