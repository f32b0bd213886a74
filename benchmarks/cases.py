"""The cases of the kernel benchmarks: op, named shape, dtype, and which PyTorch baselines are measured beside it."""

from dataclasses import dataclass
from typing import Any

from kernels.causal_flare import table as causal_flare
from kernels.causal_flare.shapes import SHAPES as CAUSAL_FLARE_SHAPES
from kernels.causal_flare.shapes import CausalShape
from kernels.causal_linear_attention import table as causal_linear_attention
from kernels.causal_linear_attention.shapes import GATED_SHAPES, AttentionShape
from kernels.causal_linear_attention.shapes import SHAPES as CAUSAL_LINEAR_SHAPES
from kernels.flare_mixer import table as flare_mixer
from kernels.flare_mixer.shapes import SHAPES as MIXER_SHAPES
from kernels.flare_mixer.shapes import MixerShape
from kernels.gather import table as gather
from kernels.gather.shapes import SHAPES as GATHER_SHAPES
from kernels.residual_mlp import table as residual_mlp
from kernels.triple_attention import table as triple_attention
from kernels.triple_attention.shapes import SHAPES as TRIPLE_SHAPES
from kernels.triple_attention.shapes import TripleShape

# "torch" is eager PyTorch, what the original runs; the next two are the same calls, compiled or replayed as a CUDA
# graph; "fla" is the published chunked kernel of the package flash-linear-attention, where that is installed.
BASELINES = ("torch", "torch-compile", "torch-graph", "fla")
QUICK = "quick"


@dataclass(frozen=True)
class MlpShape:
    """One part of a FLARE block, "branches" (norm, key and value MLPs) or "block" (all after the mixer).

    `copies` of it, each with rows and parameters of its own, run side by side under `jax.vmap`, as seeds do.
    """

    part: str
    rows: int
    channels: int
    copies: int = 1

    @property
    def points(self) -> int:
        """The rows."""
        return self.rows


@dataclass(frozen=True)
class LayerShape:
    """A FLARE layer: key and value MLPs of three inner layers, the mixer, the output projection."""

    batch: int
    points: int
    channels: int
    heads: int
    latents: int


# Every op's implementations. Those of the layer are the mixer's; with "xla" the MLPs are plain XLA too.
IMPLEMENTATIONS = {
    "flare_mixer": flare_mixer.OPERATION.names,
    "gather": gather.OPERATION.names,
    "flarepp_mixer": gather.OPERATION.names,
    "flare_layer": ("xla", "cudnn", "pallas"),
    "triple_attention": triple_attention.OPERATION.names,
    "causal_linear_attention": causal_linear_attention.OPERATION.names,
    "gated_linear_attention": causal_linear_attention.GATED.names,
    "causal_flare": causal_flare.OPERATION.names,
    "residual_mlp": residual_mlp.OPERATION.names,
}

# The named shapes of the kernels, those that only the benchmarks use, and a tiny one of each for a trial on any device.
SHAPES: dict[str, dict[str, Any]] = {
    "flare_mixer": {
        **MIXER_SHAPES,
        "drivaerml_40k_d16": MixerShape(1, 40_000, 8, 256, 16),
        QUICK: MixerShape(1, 100, 2, 16, 8),
    },
    "gather": {
        **GATHER_SHAPES,
        QUICK: MixerShape(1, 100, 2, 16, 8),
    },
    "flarepp_mixer": {
        "million_m64": MixerShape(1, 1_000_000, 8, 64, 16),
        "million_m128": MixerShape(1, 1_000_000, 8, 128, 16),
        "million_m512": MixerShape(1, 1_000_000, 8, 512, 16),
        "elasticity": MixerShape(2, 972, 8, 64, 8),
        QUICK: MixerShape(1, 100, 2, 16, 8),
    },
    "flare_layer": {
        "million_m128": LayerShape(1, 1_000_000, 128, 8, 128),
        "million_m2048": LayerShape(1, 1_000_000, 128, 8, 2048),
        QUICK: LayerShape(1, 100, 16, 2, 16),
    },
    "triple_attention": {**TRIPLE_SHAPES, QUICK: TripleShape(1, 100, 2, 8)},
    "causal_linear_attention": {**CAUSAL_LINEAR_SHAPES, QUICK: AttentionShape(1, 100, 2, 8, 8)},
    "gated_linear_attention": {**GATED_SHAPES, QUICK: AttentionShape(1, 100, 2, 8, 8)},
    "causal_flare": {**CAUSAL_FLARE_SHAPES, QUICK: CausalShape(1, 40, 2, 16, 8)},
    "residual_mlp": {
        "elasticity_branches": MlpShape("branches", 1944, 64),
        "elasticity_block": MlpShape("block", 1944, 64),
        # Eight seeds in one program.
        "elasticity_branches_x8": MlpShape("branches", 1944, 64, copies=8),
        "elasticity_block_x8": MlpShape("block", 1944, 64, copies=8),
        "drivaer_40k_branches": MlpShape("branches", 40_000, 64),
        "drivaer_40k_block": MlpShape("block", 40_000, 64),
        # A step of Navier-Stokes: 2 samples of 10 frames of 4096 points.
        "ns_branches": MlpShape("branches", 81_920, 128),
        "ns_block": MlpShape("block", 81_920, 128),
        "million_c128_branches": MlpShape("branches", 1_048_576, 128),
        "million_c128_block": MlpShape("block", 1_048_576, 128),
        QUICK: MlpShape("block", 100, 16),
    },
}


@dataclass(frozen=True)
class Case:
    """One op at one shape and dtype; `baselines` are rows of `BASELINES`."""

    op: str
    name: str
    dtype: str
    baselines: tuple[str, ...] = ("torch", "torch-graph")

    @property
    def shape(self) -> Any:
        """The sizes, of the op's own shape type."""
        return SHAPES[self.op][self.name]

    @property
    def label(self) -> str:
        return f"{self.op} {self.name} {self.dtype}"


_COMPILED = ("torch", "torch-compile", "torch-graph")
_LINEAR = ("torch", "torch-graph", "fla")
CASES = (
    Case("flare_mixer", "million_m128", "bfloat16"),
    Case("flare_mixer", "million_m512", "bfloat16"),
    Case("flare_mixer", "million_m2048", "bfloat16"),
    Case("flare_mixer", "million_m128", "float32"),
    Case("flare_mixer", "million_m512", "float32"),
    Case("flare_mixer", "million_m2048", "float32"),
    Case("flare_mixer", "drivaerml_40k_d16", "bfloat16"),
    Case("flare_mixer", "drivaerml_40k_d16", "float32"),
    Case("flare_mixer", "darcy", "float32"),
    Case("flare_mixer", "elasticity", "float32"),
    Case("gather", "million_m128", "bfloat16"),
    Case("gather", "million_m128", "float32"),
    Case("gather", "elasticity", "float32"),
    Case("flarepp_mixer", "million_m64", "bfloat16"),
    Case("flarepp_mixer", "million_m128", "bfloat16"),
    Case("flarepp_mixer", "million_m512", "bfloat16"),
    Case("flarepp_mixer", "million_m128", "float32"),
    Case("flarepp_mixer", "elasticity", "float32"),
    Case("flare_layer", "million_m128", "bfloat16", _COMPILED),
    Case("flare_layer", "million_m2048", "bfloat16", _COMPILED),
    Case("triple_attention", "points_500k_d32", "bfloat16", _COMPILED),
    Case("triple_attention", "points_65k_d32", "bfloat16"),
    Case("triple_attention", "points_65k_d16", "bfloat16"),
    Case("triple_attention", "points_65k_d64", "bfloat16"),
    Case("causal_linear_attention", "long_d64", "bfloat16", (*_LINEAR, "torch-compile")),
    Case("causal_linear_attention", "long_d64", "float32", _LINEAR),
    Case("causal_linear_attention", "long_d128", "bfloat16", _LINEAR),
    Case("causal_linear_attention", "text_4k", "bfloat16", _LINEAR),
    Case("gated_linear_attention", "gla_15m", "bfloat16", _LINEAR),
    Case("gated_linear_attention", "gla_d32", "bfloat16", _LINEAR),
    Case("gated_linear_attention", "gla_d64", "bfloat16", _LINEAR),
    Case("gated_linear_attention", "gla_15m", "float32", _LINEAR),
    Case("causal_flare", "text_1k", "bfloat16"),
    Case("causal_flare", "text_1k", "float32"),
    Case("causal_flare", "text_8k", "bfloat16", _COMPILED),
    Case("causal_flare", "long_m64", "bfloat16"),
    Case("causal_flare", "published_m64", "bfloat16"),
    Case("causal_flare", "published_4k", "bfloat16"),
    Case("causal_flare", "published_4k_d128", "bfloat16"),
    Case("causal_flare", "wide_m2048", "bfloat16"),
    Case("residual_mlp", "elasticity_branches", "float32"),
    Case("residual_mlp", "elasticity_block", "float32"),
    Case("residual_mlp", "drivaer_40k_block", "float32"),
    Case("residual_mlp", "ns_branches", "float32"),
    Case("residual_mlp", "ns_block", "float32"),
    Case("residual_mlp", "million_c128_branches", "bfloat16", _COMPILED),
    Case("residual_mlp", "million_c128_block", "bfloat16", _COMPILED),
    *(Case(op, QUICK, "float32") for op in SHAPES),
)


def find_case(op: str, name: str, dtype: str) -> Case:
    """Return the case of this op, shape and dtype."""
    return next(case for case in CASES if (case.op, case.name, case.dtype) == (op, name, dtype))


def select_cases(
    ops: tuple[str, ...] = (), shapes: tuple[str, ...] = (), dtypes: tuple[str, ...] = (), *, quick: bool = False
) -> list[Case]:
    """Return the cases with one of these ops, shapes and dtypes; an empty tuple means all, but for the quick ones.

    Raises ValueError for a name that is not known, and where nothing is left.
    """
    _check("op", ops, tuple(SHAPES))
    _check("shape", shapes, tuple(dict.fromkeys(case.name for case in CASES)))
    _check("dtype", dtypes, tuple(dict.fromkeys(case.dtype for case in CASES)))
    if quick:
        shapes = (QUICK,)
    chosen = [
        case
        for case in CASES
        if (not ops or case.op in ops)
        and (case.name in shapes if shapes else case.name != QUICK)
        and (not dtypes or case.dtype in dtypes)
    ]
    if not chosen:
        wanted = ", ".join(f"{option} {','.join(given)}" for option, given in _options(ops, shapes, dtypes) if given)
        raise ValueError(f"no case has all of {wanted}; leave one of these options out.")
    return chosen


def _options(
    ops: tuple[str, ...], shapes: tuple[str, ...], dtypes: tuple[str, ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("op", ops), ("shape", shapes), ("dtype", dtypes)


def _check(option: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{option} is {name!r}; give one or more of {', '.join(known)}, with commas between them.")
