"""Times one layer in JAX over many numbers of points; runs in the process of a `benchmarks.worker.Worker`.

Forward and backward together: mean squared error to a random target, gradients of parameters and input. Input and
parameters are float32, the layer computes in the dtype asked for.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from benchmarks.programs import Program, call_seconds, compile_all, is_fatal, needed_mebibytes, too_large
from benchmarks.timing import device_line, growth
from benchmarks.worker import reason
from flare_jax import params as model_params
from flare_jax.layers.linear import Linear
from flare_jax.mixers.flare_attention import FlareAttention, FlareAttentionConfig
from flare_jax.mixers.slice_attention import GridSliceConfig, SliceAttention
from flare_jax.mixers.slice_tokens import SliceTokenAttention
from flare_jax.parameter_keys import ParameterKeys

CHANNELS, HEADS = 128, 8


class SoftmaxLayer(nnx.Module):
    """Softmax self-attention through `jax.nn.dot_product_attention`, by cuDNN where that can: memory O(N) there."""

    def __init__(self, channel_dim: int, *, num_heads: int, dtype: str, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.qkv_proj = Linear(channel_dim, 3 * channel_dim, dtype=dtype, rngs=rngs)
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)
        fused = jax.default_backend() == "gpu" and jnp.dtype(dtype).itemsize == 2
        self.implementation = "cudnn" if fused else "xla"

    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
        """Mix the points."""
        batch, points, channels = x.shape
        q, k, v = jnp.moveaxis(self.qkv_proj(x).reshape(batch, points, 3, self.num_heads, -1), 2, 0)
        mixed = jax.nn.dot_product_attention(q, k, v, implementation=self.implementation)
        return self.out_proj(mixed.reshape(batch, points, channels))


def make_layer(mixer: str, size: int, dtype: str) -> nnx.Module:
    """Return a layer of the mixer "softmax", "physics" (Transolver, `size` slices) or "flare" (`size` latents)."""
    rngs = ParameterKeys(0)
    if mixer == "softmax":
        return SoftmaxLayer(CHANNELS, num_heads=HEADS, dtype=dtype, rngs=rngs)
    if mixer == "physics":
        token_mixer = SliceTokenAttention(CHANNELS, num_heads=HEADS, dtype=dtype, rngs=rngs)
        return SliceAttention(
            CHANNELS, GridSliceConfig(num_heads=HEADS, num_slices=size), token_mixer=token_mixer, dtype=dtype, rngs=rngs
        )
    return FlareAttention(CHANNELS, FlareAttentionConfig(num_heads=HEADS, num_latents=size), dtype=dtype, rngs=rngs)


def handle(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Time the layer {"mixer", "size", "dtype"} for the numbers of points `request["names"]`, in ascending order.

    `budget` is the time for one number; one that would take more than `longest` for a single call, judged by the one
    before it, is left out. An answer has "seconds" and "mebibytes", or "error".
    """
    graphdef, parameters = model_params.split(make_layer(request["mixer"], request["size"], request["dtype"]))
    apply = model_params.apply_fn(graphdef)

    def loss(parameters: Any, x: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(apply(parameters, x).astype(jnp.float32) - target))

    step = jax.value_and_grad(loss, argnums=(0, 1))
    counts = [int(name) for name in request["names"]]
    specs = [jax.ShapeDtypeStruct((1, points, CHANNELS), jnp.float32) for points in counts]
    programs = compile_all([(functools.partial(step), (parameters, spec, spec)) for spec in specs])
    before: tuple[int, float] | None = None
    for points, program in zip(counts, programs, strict=True):
        answer = _time(program, parameters, points, before, request)
        before = (points, answer["seconds"]) if "seconds" in answer else before
        fatal = {"fatal": True} if is_fatal(answer.get("error", "")) else {}
        yield {"name": str(points), "device": device_line(), **answer, **fatal}


def _time(
    program: Program, parameters: Any, points: int, before: tuple[int, float] | None, request: dict[str, Any]
) -> dict[str, Any]:
    error = program.error or too_large(program)
    if not error and before is not None:
        error = growth(before, points, 2 if request["mixer"] == "softmax" else 1, request["longest"])
    if error:
        return {"error": error, "mebibytes": needed_mebibytes(program)}
    x, target = jax.random.normal(jax.random.key(0), (2, 1, points, CHANNELS))
    try:
        seconds = call_seconds(program, (parameters, x, target), request["budget"])
    except Exception as failure:  # out of memory when it runs: a point that is missing in the figure
        return {"error": reason(failure)}
    return {"seconds": seconds, "mebibytes": needed_mebibytes(program)}
