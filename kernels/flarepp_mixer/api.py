"""The public entry of the mixer of FLARE++: a gather that makes the queries, and the FLARE mixer with them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from kernels._checks import (
    as_largest,
    check_are_arrays,
    check_latents,
    check_points,
    check_same_points,
    check_scale,
    describe,
)
from kernels._sharding import vary_alike
from kernels.flare_mixer import api as mixer
from kernels.flare_mixer import flare_mixer
from kernels.flarepp_mixer.mixing import SelectedBackends, mix
from kernels.flarepp_mixer.operands import Latents, Operands
from kernels.gather import api as gathering
from kernels.gather import gather

# A number that the norms of some keys do not exceed, where one is known.
Largest = float | Float[Array, ""] | None


def flarepp_mixer(
    q0: Float[Array, "H M D"],
    q_fixed: Float[Array, "H M D"],
    gate: Float[Array, "H"],
    k0: Float[Array, "B N H D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    v0: Float[Array, "B N H D"] | None = None,
    *,
    scale: float | int,
    mask: Bool[Array, "B N"] | None = None,
    largest_keys: tuple[Largest, Largest] = (None, None),
    axis_name: str | None = None,
    implementation: str | None = None,
    return_latents: bool = False,
    synthesis_precision: str | lax.Precision | None = "highest",
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], Latents]:
    """Mix points through latents whose queries are made from the points.

    `Qd = softmax_N(scale q0 k0ᵀ) v0`, `Q = q_fixed + gate · Qd`, then gather and scatter as in `flare_mixer` with the
    queries Q of each sample. Without v0 the values of the first call are its keys. `gate` has one number per head.
    Norms and projections belong to the model. `largest_keys` are numbers that the norms of k0 and of k do not exceed,
    each as `largest_key` in `gather`; `synthesis_precision` is the `precision` of the first gather. `mask`, `axis_name`
    and `implementation` are as in `flare_mixer`.
    Returns y in the dtype of v, with `return_latents` also the `Latents`.

    Raises ValueError as `gather` and `flare_mixer` do.

    Source: FLARE++, arXiv 2608.11519; the maths is in README.md.
    """
    largest = _as_largest(largest_keys)
    operands = Operands(q0, q_fixed, gate, k0, v0, k, v, mask, largest)
    scale = check_scale(scale)
    _check(operands)
    synthesis = gathering.select(operands.synthesis, implementation, axis_name, synthesis_precision)
    # Of the queries only shape and dtype are looked at, which are those of the first gather.
    routing = mixer.select(operands.routing(q0), implementation, axis_name)
    if axis_name is None and synthesis.selection.implementation != "reference":
        y, latents = mix(vary_alike(operands), SelectedBackends(routing.selection, synthesis), scale)
        return (y, latents) if return_latents else y
    shared = {"scale": scale, "mask": mask, "axis_name": axis_name, "implementation": implementation}
    q_dynamic = gather(q0, k0, v0, largest_key=largest[0], precision=synthesis_precision, **shared)
    q = operands.queries(q_dynamic)
    y, z = flare_mixer(q.astype(k.dtype), k, v, largest_key=largest[1], return_latents=True, **shared)
    return (y, Latents(q_dynamic, q, z)) if return_latents else y


def _as_largest(largest: Any) -> tuple[jax.Array | None, jax.Array | None]:
    if not isinstance(largest, tuple | list) or len(largest) != 2:
        raise ValueError(f"largest_keys is {largest!r}; give two numbers, for k0 and for k, or None for one.")
    of_k0, of_k = (as_largest(x, f"largest_keys[{index}]") for index, x in enumerate(largest))
    return of_k0, of_k


def _check(operands: Operands) -> None:
    """Raise ValueError unless all fit together; what the calls that it is made of take is left to them."""
    names = ("q0", "q_fixed", "gate", "k0", "k", "v", "v0")
    check_are_arrays({name: getattr(operands, name) for name in names}, absent=("v0",))
    q0, q_fixed, gate, k0, k, v0 = (getattr(operands, name) for name in ("q0", "q_fixed", "gate", "k0", "k", "v0"))
    for name in ("k0", "k", "v"):
        check_points(name, getattr(operands, name))
    check_same_points("v", operands.v, "k", k)
    check_same_points("k0", k0, "k", k)
    check_latents("q0", q0, "k0", k0)
    check_latents("q_fixed", q_fixed, "k", k)
    if q0.ndim != 3 or q_fixed.shape != q0.shape:
        raise ValueError(
            f"q_fixed has shape {describe(q_fixed)} and q0 has {describe(q0)}; give both one shape [H,M,D]."
        )
    if gate.shape != k.shape[2:3]:
        raise ValueError(f"gate has shape {describe(gate)}; give one number for each of the {k.shape[2]} heads.")
    for name, x in (("q_fixed", q_fixed), ("gate", gate)):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {x.dtype}; cast it to float32.")
    if v0 is not None and v0.shape != k.shape:
        raise ValueError(f"v0 has shape {describe(v0)}, which does not fit k {describe(k)}; give both one shape.")
