"""A small block of one backend and what the tests by transformation have to know about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class BlockCase:
    """One backend; the cases of a backend together set every option of its own to something else than the default.

    `options` are those of the backend. `padding` says what a mask does: padded tokens can be removed without changing
    the others, their content does not matter but their number does, they are mixed like others, or a mask must raise a
    clear error. `permutes` says whether permuted tokens give permuted outputs, `rope` whether there are rotary
    embeddings. `no_gradient` names the parameters of the block whose gradient is zero by definition. `bfloat16_ratio`
    bounds the RMS error of bfloat16.
    """

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)
    padding: Literal["removable", "inert", "ignored", "refused"] = "removable"
    permutes: bool = True
    rope: bool = False
    no_gradient: tuple[str, ...] = ()
    bfloat16_ratio: float = 3e-2
