"""The least time that each op can take on one H100, from its shape alone.

A floor is the largest of three times: bytes moved at 3.35e12 per second; exponentials at 3.7e12 per second, 16 per
clock of each multiprocessor; floating-point operations of the matrix products at the dense rate of the tensor cores,
989e12 per second for bfloat16 and float16, 495e12 for "tf32", a third of that for float32, as three TF32 products or
six of bfloat16.

Counted is what no implementation with memory O(N) avoids. Arrays of all points are read or written once in each pass
over the points that the dependencies force (passes separated by semicolons below); latents, states, weights and
statistics are left out. The backward recomputes weights and hidden values from what the forward kept. "both" is forward
and backward. P is the number of points of all samples and heads; a product is one multiply-add per element of a head.

- flare_mixer: forward gathers k, v; scatters k, y. Backward: k, dy; then k, v, y, dy, dk, dv. That makes 4 and 12
  arrays, 2 and 5 exponentials and 4 and 12 products for each of P M pairs.
- gather, with keys as values: k. Backward: k, dk. 1 and 3 arrays, 1 and 2 exponentials, 2 and 7 products.
- flarepp_mixer: the gather and flare_mixer; the queries need the first gather of all points before the second.
- causal_flare: k, v, y. Backward: k, v, dy forwards; then k, v, y, dy, dk, dv backwards. 3 and 12 arrays, 2 and 6
  exponentials (weight and share in each walk) and 3 and 12 products for each of P M pairs.
- triple_attention: k1, k2, v; q1, q2, y. Backward: q1, q2, dy, dq1, dq2; then k1, k2, v, dk1, dk2, dv. 6 and 17 arrays,
  2 and 6 contractions of D³ multiply-adds for each of P points.
- causal_linear_attention: q, k, v, y. Backward: q, k, v, dy, dq, dk, dv. 4 and 11 arrays; update and reading of the
  state, and 5 more backward (the state again, dq, its gradient, dk, dv), D² multiply-adds each.
- gated_linear_attention: the same, and the float32 log decay of each key channel, read once in each direction, and its
  gradient; of exponentials the factor of each key channel's decay, once in each direction.
- residual_mlp: inputs and outputs, with the backward three times the inputs and twice the outputs; all products once,
  with the backward three times; one exponential per activation and direction.
- flare_layer: x, k, v; k, out. Backward: k, dout; then x, k, v, y, dout, dx. 5 and 13 arrays `[B, N, C]`; exponentials
  and products of the mixer, of the key and value MLPs and of the output projection.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.cases import Case, LayerShape, MlpShape
from kernels.causal_flare.shapes import CausalShape
from kernels.causal_linear_attention.shapes import AttentionShape
from kernels.flare_mixer.shapes import MixerShape
from kernels.residual_mlp.shapes import INNER_LAYERS
from kernels.triple_attention.shapes import TripleShape

PEAK_BYTES = 3.35e12
PEAK_EXPONENTIALS = 3.7e12
PEAK_FLOPS = {"bfloat16": 989e12, "float16": 989e12, "tf32": 495e12, "float32": 495e12 / 3}
ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class Work(NamedTuple):
    """What one direction of an op has to do; `arithmetic` names the rate of its products in `PEAK_FLOPS`."""

    bytes: float
    exponentials: float
    flops: float
    arithmetic: str

    @property
    def times(self) -> dict[str, float]:
        """Seconds that each resource needs by itself."""
        return {
            "memory": self.bytes / PEAK_BYTES,
            "exponentials": self.exponentials / PEAK_EXPONENTIALS,
            "products": self.flops / PEAK_FLOPS[self.arithmetic],
        }

    @property
    def seconds(self) -> float:
        """The floor."""
        return max(self.times.values())

    @property
    def limit(self) -> str:
        """The resource that sets the floor."""
        times = self.times
        return max(times, key=times.get)


def floor(case: Case, direction: str) -> Work:
    """Return the work of a case, `direction` "forward" or "both"."""
    return WORK[case.op](case.shape, case.dtype, direction == "both")


def mixer_work(shape: MixerShape, dtype: str, both: bool) -> Work:
    """FLARE mixer."""
    points = shape.batch * shape.points * shape.heads
    pairs = points * shape.latents
    arrays, exponentials, products = (12, 5, 12) if both else (4, 2, 4)
    size = points * shape.width * ITEM_BYTES[dtype]
    return Work(arrays * size, exponentials * pairs, 2 * products * pairs * shape.width, dtype)


def gather_work(shape: MixerShape, dtype: str, both: bool) -> Work:
    """Gather whose values are the keys."""
    points = shape.batch * shape.points * shape.heads
    pairs = points * shape.latents
    arrays, exponentials, products = (3, 2, 7) if both else (1, 1, 2)
    size = points * shape.width * ITEM_BYTES[dtype]
    return Work(arrays * size, exponentials * pairs, 2 * products * pairs * shape.width, dtype)


def flarepp_work(shape: MixerShape, dtype: str, both: bool) -> Work:
    """Mixer of FLARE++: a gather, then the FLARE mixer."""
    first, second = gather_work(shape, dtype, both), mixer_work(shape, dtype, both)
    return Work(*(a + b for a, b in zip(first[:3], second[:3], strict=True)), dtype)


def causal_flare_work(shape: CausalShape, dtype: str, both: bool) -> Work:
    """Causal FLARE mixer."""
    points = shape.batch * shape.points * shape.heads
    pairs = points * shape.latents
    arrays, exponentials, products = (12, 6, 12) if both else (3, 2, 3)
    size = points * shape.width * ITEM_BYTES[dtype]
    return Work(arrays * size, exponentials * pairs, 2 * products * pairs * shape.width, dtype)


def triple_work(shape: TripleShape, dtype: str, both: bool) -> Work:
    """Triple attention."""
    points = shape.batch * shape.points * shape.heads
    arrays, contractions = (17, 6) if both else (6, 2)
    size = points * shape.width * ITEM_BYTES[dtype]
    return Work(arrays * size, 0, 2 * contractions * points * shape.width**3, dtype)


def causal_linear_work(shape: AttentionShape, dtype: str, both: bool) -> Work:
    """Causal linear attention."""
    points = shape.batch * shape.points * shape.heads
    # Backward adds q, k, dq, dk of the keys' width and v, dy, dv of the values'.
    keys, values, products = (6, 5, 7) if both else (2, 2, 2)
    size = points * (keys * shape.width + values * shape.channels) * ITEM_BYTES[dtype]
    return Work(size, 0, 2 * products * points * shape.width * shape.channels, dtype)


def gated_linear_work(shape: AttentionShape, dtype: str, both: bool) -> Work:
    """Causal linear attention with a decay of each key channel."""
    work = causal_linear_work(shape, dtype, both)
    decays = shape.batch * shape.points * shape.heads * shape.width
    moved = (3 if both else 1) * decays * ITEM_BYTES["float32"]
    return work._replace(bytes=work.bytes + moved, exponentials=(2 if both else 1) * decays)


def mlp_work(shape: MlpShape, dtype: str, both: bool) -> Work:
    """Residual MLPs with what surrounds them in a FLARE block: float32 arrays, TF32 products."""
    branches = shape.part == "branches"
    inputs, outputs = (1, 2) if branches else (2, 1)
    matrices = 2 * (INNER_LAYERS + 2) if branches else INNER_LAYERS + 3
    arrays = 3 * inputs + 2 * outputs if both else inputs + outputs
    elements = shape.rows * shape.channels
    activations = (INNER_LAYERS + 1) * (2 if branches else 1) * elements * (2 if both else 1)
    flops = 2 * elements * shape.channels * matrices * (3 if both else 1)
    return Work(arrays * elements * ITEM_BYTES[dtype], activations, flops, _mlp_arithmetic(dtype))


def layer_work(shape: LayerShape, dtype: str, both: bool) -> Work:
    """FLARE layer: key and value MLPs, mixer, output projection."""
    head_width = shape.channels // shape.heads
    mixer = mixer_work(MixerShape(shape.batch, shape.points, shape.heads, shape.latents, head_width), dtype, both)
    elements = shape.batch * shape.points * shape.channels
    matrices = 2 * (INNER_LAYERS + 2) + 1
    flops = mixer.flops + 2 * elements * shape.channels * matrices * (3 if both else 1)
    activations = 2 * (INNER_LAYERS + 1) * elements * (2 if both else 1)
    moved = (13 if both else 5) * elements * ITEM_BYTES[dtype]
    return Work(moved, mixer.exponentials + activations, flops, _mlp_arithmetic(dtype))


def _mlp_arithmetic(dtype: str) -> str:
    return "tf32" if dtype == "float32" else dtype


WORK: dict[str, Callable[[Any, str, bool], Work]] = {
    "flare_mixer": mixer_work,
    "triple_attention": triple_work,
    "causal_linear_attention": causal_linear_work,
    "gated_linear_attention": gated_linear_work,
    "causal_flare": causal_flare_work,
    "residual_mlp": mlp_work,
    "flare_layer": layer_work,
    "gather": gather_work,
    "flarepp_mixer": flarepp_work,
}
