"""The PyTorch baselines of the kernels, written with public calls: what the original does, or would do without kernels.

Arrays are `[B, N, H, D]` as in our ops. float32 attention is left in PyTorch's default precision; MLPs use TF32 in
float32 and autocast in bfloat16, as training does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from benchmarks.cases import Case
from benchmarks.torch_layers import BlockRest, Branches, FlareLayer
from kernels.causal_flare.shapes import CausalShape
from kernels.causal_linear_attention.shapes import AttentionShape
from kernels.flare_mixer.shapes import MixerShape
from kernels.triple_attention.shapes import TripleShape

# Tokens per chunk of the causal ops: a power of two for which weights and states are about equally large.
CHUNK = 128


class Problem(NamedTuple):
    """A function of `inputs`; gradients are taken for these and `parameters`. `autocast` is a dtype or None."""

    function: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]
    parameters: tuple[torch.Tensor, ...] = ()
    autocast: torch.dtype | None = None
    tf32: bool = False


def make_problem(case: Case, name: str) -> Problem:
    """Return the baseline `name` of a case with random inputs on the GPU."""
    torch.manual_seed(0)
    problems = PUBLISHED if name == "fla" else PROBLEMS
    return problems[case.op](case.shape, getattr(torch, case.dtype))


def _random(dtype: torch.dtype, *shapes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(shape, dtype=dtype, device="cuda", requires_grad=True) for shape in shapes)


def _mixer(shape: MixerShape, dtype: torch.dtype) -> Problem:
    """Attention of the latents to the points, and of the points to the latents."""

    def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        query = q[None].expand(len(k), -1, -1, -1)
        key, value = k.transpose(1, 2), v.transpose(1, 2)
        latents = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return F.scaled_dot_product_attention(key, query, latents, scale=1.0).transpose(1, 2)

    points = (shape.batch, shape.points, shape.heads, shape.width)
    return Problem(mix, _random(dtype, (shape.heads, shape.latents, shape.width), points, points))


def _gather(shape: MixerShape, dtype: torch.dtype) -> Problem:
    """Attention of the latents to the points, whose values are their keys."""

    def read(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        key = k.transpose(1, 2)
        return F.scaled_dot_product_attention(q[None].expand(len(k), -1, -1, -1), key, key, scale=1.0)

    points = (shape.batch, shape.points, shape.heads, shape.width)
    return Problem(read, _random(dtype, (shape.heads, shape.latents, shape.width), points))


def _flarepp(shape: MixerShape, dtype: torch.dtype) -> Problem:
    """Three calls of attention: the queries are made from the points, then gather and scatter."""
    scale = shape.width**-0.5

    def mix(
        q0: torch.Tensor, q_fixed: torch.Tensor, k0: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        key0, key, value = (x.transpose(1, 2) for x in (k0, k, v))
        attention = F.scaled_dot_product_attention
        made = attention(q0[None].expand(len(k), -1, -1, -1), key0, key0, scale=scale)
        query = q_fixed + 0.5 * made
        return attention(key, query, attention(query, key, value, scale=scale), scale=scale).transpose(1, 2)

    points, latents = (shape.batch, shape.points, shape.heads, shape.width), (shape.heads, shape.latents, shape.width)
    return Problem(mix, _random(dtype, latents, latents, points, points, points))


def _triple(shape: TripleShape, dtype: torch.dtype) -> Problem:
    """Pair products of all points, and one einsum each for the state and for the outputs."""
    scale = 1.0 / round(shape.points**0.5 * shape.width)

    def pairs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2)

    def attend(q1: torch.Tensor, q2: torch.Tensor, k1: torch.Tensor, k2: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        state = scale * torch.einsum("bnhp,bnhj->bhpj", pairs(k1, k2), v)
        return torch.einsum("bnhp,bhpj->bnhj", pairs(q1, q2), state)

    return Problem(attend, _random(dtype, *[(shape.batch, shape.points, shape.heads, shape.width)] * 5))


def chunked_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return `y_t = Σ_{τ≤t} (q_t·k_τ) v_τ`, chunk by chunk: the state before it, and the weights inside it."""
    batch, points, heads, _ = q.shape
    size = min(CHUNK, points)
    missing = -points % size
    q, k, v = (F.pad(x, (0, 0, 0, 0, 0, missing)).reshape(batch, -1, size, heads, x.shape[-1]) for x in (q, k, v))
    sums = torch.einsum("bnchd,bnche->bnhde", k, v).float()
    starts = (torch.cumsum(sums, dim=1) - sums).to(q.dtype)
    weights = torch.einsum("bnchd,bnmhd->bnhcm", q, k).tril()
    y = torch.einsum("bnchd,bnhde->bnche", q, starts) + torch.einsum("bnhcm,bnmhe->bnche", weights, v)
    return y.reshape(batch, -1, heads, v.shape[-1])[:, :points]


def _causal_linear(shape: AttentionShape, dtype: torch.dtype) -> Problem:
    scale = (shape.points * shape.width) ** -0.5
    tokens = (shape.batch, shape.points, shape.heads)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return chunked_attention(scale * q, k, v)

    return Problem(attend, _random(dtype, (*tokens, shape.width), (*tokens, shape.width), (*tokens, shape.channels)))


def _published_linear(shape: AttentionShape, dtype: torch.dtype) -> Problem:
    """Causal linear attention by the kernels of flash-linear-attention."""
    from fla.ops.linear_attn import chunk_linear_attn

    scale = (shape.points * shape.width) ** -0.5
    tokens = (shape.batch, shape.points, shape.heads)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return chunk_linear_attn(q, k, v, scale=scale, normalize=False)[0]

    return Problem(attend, _random(dtype, (*tokens, shape.width), (*tokens, shape.width), (*tokens, shape.channels)))


def chunked_gated_attention(g: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return `y_t = Σ_{τ≤t} Σ_d q_td k_τd exp(L_td - L_τd) v_τ` with L the sums of g, chunk by chunk.

    Both factors are relative to the start of a chunk, which decays as weak as those of the benchmark allow.
    """
    batch, points, heads, _ = q.shape
    size = min(CHUNK // 2, points)
    missing = -points % size
    g, q, k, v = (F.pad(x, (0, 0, 0, 0, 0, missing)).reshape(batch, -1, size, heads, x.shape[-1]) for x in (g, q, k, v))
    sums = torch.cumsum(g, dim=2)
    total = sums[:, :, -1]
    added = torch.einsum("bnchd,bnche->bnhde", (k * (total[:, :, None] - sums).exp()).to(v.dtype), v).float()
    state, starts = torch.zeros_like(added[:, 0]), []
    for chunk in range(added.shape[1]):
        starts.append(state)
        state = total[:, chunk].exp()[..., None] * state + added[:, chunk]
    read, written = (q * sums.exp()).to(q.dtype), (k * (-sums).exp()).to(k.dtype)
    weights = torch.einsum("bnchd,bnmhd->bnhcm", read, written).tril()
    y = torch.einsum("bnchd,bnhde->bnche", read, torch.stack(starts, dim=1).to(q.dtype))
    y = y + torch.einsum("bnhcm,bnmhe->bnche", weights, v)
    return y.reshape(batch, -1, heads, v.shape[-1])[:, :points]


def _gated_inputs(shape: AttentionShape, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Return log decays as gated linear attention makes them at first, q, k and v."""
    tokens = (shape.batch, shape.points, shape.heads)
    q, k, v = _random(dtype, (*tokens, shape.width), (*tokens, shape.width), (*tokens, shape.channels))
    gate = torch.randn(q.shape, device=q.device)
    return (F.logsigmoid(gate) / 16).requires_grad_(), q, k, v


def _gated_linear(shape: AttentionShape, dtype: torch.dtype) -> Problem:
    scale = shape.width**-0.5

    def attend(g: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return chunked_gated_attention(g, scale * q, k, v)

    return Problem(attend, _gated_inputs(shape, dtype))


def _published_gated(shape: AttentionShape, dtype: torch.dtype) -> Problem:
    """Gated linear attention by the kernels of flash-linear-attention."""
    from fla.ops.gla import chunk_gla

    def attend(g: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return chunk_gla(q, k, v, g, scale=shape.width**-0.5)[0]

    return Problem(attend, _gated_inputs(shape, dtype))


def _causal_flare(shape: CausalShape, dtype: torch.dtype) -> Problem:
    """Causal linear attention over the latents as features, with one reference per latent for all exponentials.

    It is a baseline for speed: where a latent's logits grow along the sequence, its early weights underflow.
    """

    def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        logits = torch.einsum("hmd,bnhd->bnhm", q, k).float()
        weights = torch.exp(logits - logits.amax(dim=1, keepdim=True))
        mass = torch.cumsum(weights, dim=1).clamp_min(1e-20)
        share = torch.softmax(logits, dim=-1) / mass
        return chunked_attention(share.to(v.dtype), weights.to(v.dtype), v)

    points = (shape.batch, shape.points, shape.heads, shape.width)
    return Problem(mix, _random(dtype, (shape.heads, shape.latents, shape.width), points, points))


def _module_problem(module: torch.nn.Module, dtype: torch.dtype, *shapes: tuple[int, ...]) -> Problem:
    module = module.cuda()
    autocast = None if dtype == torch.float32 else dtype
    return Problem(module, _random(dtype, *shapes), tuple(module.parameters()), autocast, tf32=True)


def _layer(shape: Any, dtype: torch.dtype) -> Problem:
    layer = FlareLayer(shape.channels, shape.heads, shape.latents)
    return _module_problem(layer, dtype, (shape.batch, shape.points, shape.channels))


def _mlp(shape: Any, dtype: torch.dtype) -> Problem:
    rows = (shape.rows, shape.channels)
    if shape.part == "branches":
        return _module_problem(Branches(shape.channels), dtype, rows)
    return _module_problem(BlockRest(shape.channels), dtype, rows, rows)


PROBLEMS: dict[str, Callable[[Any, torch.dtype], Problem]] = {
    "flare_mixer": _mixer,
    "gather": _gather,
    "flarepp_mixer": _flarepp,
    "flare_layer": _layer,
    "triple_attention": _triple,
    "causal_linear_attention": _causal_linear,
    "gated_linear_attention": _gated_linear,
    "causal_flare": _causal_flare,
    "residual_mlp": _mlp,
}

# By the kernels that others publish.
PUBLISHED: dict[str, Callable[[Any, torch.dtype], Problem]] = {
    "causal_linear_attention": _published_linear,
    "gated_linear_attention": _published_gated,
}
