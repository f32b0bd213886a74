"""A small model and what the tests by transformation have to know about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

IN_DIM, OUT_DIM, NUM_POINTS = 3, 2, 11


@dataclass(frozen=True)
class Case:
    """One small model of the zoo; the cases of a model type together leave no option at its default.

    `options` go to `build_model`; `small` are changes of them that leave one block, for speed. `point_inputs` are the
    widths of extra call inputs [B, N, width] such as fx, `sample_inputs` the trailing shapes of extra call inputs
    [B, ...] such as time. `num_points` is N: the product of the axes for a structured grid. `padding` says where points
    may be masked: anywhere, at the end only, in place (anywhere, but N is fixed, so that masked points cannot be left
    out for comparison), or refused: a mask must then raise a clear error. `permutes` says
    whether permuted points give permuted outputs. `no_gradient` names the parameters and inputs whose gradient is zero
    by the model's definition. `around` gives the mean of the perturbed parameters by their last name (1 for scales and
    0 for all others unless stated). `bfloat16_ratio` bounds the RMS error of bfloat16. `twin` is a case of the same
    code under another name, whose gradients are not tested a second time. A `graph` model takes edges and their
    features (`edge_dim`) too; what it must satisfy is in its own test.
    """

    model_type: str
    options: Mapping[str, Any]
    in_dim: int = IN_DIM
    out_dim: int = OUT_DIM
    num_points: int = NUM_POINTS
    small: Mapping[str, Any] = field(default_factory=lambda: {"num_blocks": 1})
    point_inputs: Mapping[str, int] = field(default_factory=dict)
    sample_inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    padding: Literal["anywhere", "trailing", "in place", "refused"] = "anywhere"
    permutes: bool = True
    no_gradient: tuple[str, ...] = ()
    around: Mapping[str, float] = field(default_factory=dict)
    bfloat16_ratio: float = 3e-2
    twin: str | None = None
    graph: bool = False
