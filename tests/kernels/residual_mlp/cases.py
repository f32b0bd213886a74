"""Inputs for the tests of the residual MLP, and the comparison of all outputs and gradients with the reference."""

import functools
import itertools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from kernels.residual_mlp import HeadNorm, Norm, Projection, residual_mlp, residual_mlp_branches
from tests.numerics import assert_close, cotangent, round_to_bfloat16


@dataclass(frozen=True)
class Case:
    """One call: sizes, flags and dtypes; `inner` counts inner layers, `widths` are input, hidden and output."""

    leading: tuple[int, ...] = (37,)
    widths: tuple[int, int, int] = (24, 24, 24)
    inner: int = 1
    branches: int = 1
    activation: str = "gelu_tanh"
    residual_in: bool = True
    residual_out: bool = True
    norm: str | None = None
    norm_bias: bool = True
    outer_residual: bool = False
    projected: int | None = None  # the width of x in front of the projection
    heads: int | None = None  # of the results' norms, which are of all kinds in turn
    dtype: str = "float32"
    precision: str | None = None

    def __str__(self) -> str:
        return "-".join(f"{k}={v}" for k, v in vars(self).items() if v != getattr(Case, k)) or "plain"


BLOCK = Case(norm="layer", outer_residual=True, projected=24)


def inputs(case: Case) -> dict:
    """Return seeded arrays; further branches have the width of the input everywhere and depths of their own."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, factor: float = 1.0, dtype: str = "float32") -> jax.Array:
        # Made by numpy: compiling a few operations for each case would take longer than the tests.
        return jnp.asarray((factor * rng.standard_normal(shape)).astype(jnp.dtype(dtype)))

    def branch(widths: list[int]) -> tuple:
        pairs = list(itertools.pairwise(widths))
        weights = tuple(normal(i, o, factor=i**-0.5) for i, o in pairs)
        return weights, tuple(normal(o, factor=0.3) for _, o in pairs)

    first, hidden, last = case.widths
    depths = [[first, *[hidden] * (case.inner + 1), last] if case.inner >= 0 else [first, last]]
    depths += [[first] * max(case.inner + 2, 2)] * (case.branches - 1)
    arrays = {
        "x": normal(*case.leading, case.projected or first, dtype=case.dtype),
        "branches": tuple(branch(widths) for widths in depths),
    }
    if case.norm:
        bias = normal(first, factor=0.3) if case.norm_bias else None
        scale = 1.0 + normal(first, factor=0.3)
        arrays["norm"] = Norm(scale=scale, bias=bias, kind=case.norm, epsilon=1e-5)
    if case.projected:
        arrays["projection"] = Projection(
            weight=normal(case.projected, first, factor=case.projected**-0.5),
            bias=normal(first, factor=0.3),
            skip=normal(*case.leading, first, dtype=case.dtype),
        )
    if case.heads:
        kinds = [("layer", True, True), ("rms", False, False), ("rms", True, False), ("layer", False, False)]
        arrays["head_norms"] = [
            HeadNorm(
                scale=1.0 + normal(weights[-1].shape[1] // case.heads, factor=0.3) if scaled else None,
                bias=normal(weights[-1].shape[1] // case.heads, factor=0.3) if shifted else None,
                kind=kind,
                epsilon=1e-5,
                heads=case.heads,
            )
            for (weights, _), (kind, scaled, shifted) in zip(arrays["branches"], kinds, strict=False)
        ]
        arrays["head_norms"] += [None] * (case.branches - len(kinds))
    return arrays


def apply(case: Case, arrays: dict, implementation: str | None) -> tuple[jax.Array, ...]:
    """Call the op that the case is about."""
    options = {
        "activation": case.activation,
        "residual_in": case.residual_in,
        "residual_out": case.residual_out,
        "norm": arrays.get("norm"),
        "implementation": implementation,
        "precision": case.precision,
    }
    if case.branches > 1:
        return residual_mlp_branches(arrays["x"], arrays["branches"], head_norms=arrays.get("head_norms"), **options)
    ((weights, biases),) = arrays["branches"]
    options |= {"outer_residual": case.outer_residual, "projection": arrays.get("projection")}
    return (residual_mlp(arrays["x"], weights, biases, **options),)


def outputs_and_gradients(case: Case, implementation: str | None, arrays: dict) -> dict:
    """Return the outputs and the gradients of all arrays, by name, for fixed random cotangents."""

    @jax.jit
    def evaluate(arrays: dict) -> dict:
        outputs, pull_back = jax.vjp(lambda a: apply(case, a, implementation), arrays)
        # Rounded to bfloat16 first, so that every implementation sees the same cotangent.
        drawn = [cotangent(i, y.shape) for i, y in enumerate(outputs)]
        pairs = zip(drawn, outputs, strict=True)
        (gradients,) = pull_back(tuple(round_to_bfloat16(c).astype(y.dtype) for c, y in pairs))
        return {"output": outputs, "gradient": gradients}

    leaves, _ = jax.tree.flatten_with_path(evaluate(arrays))
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


@functools.cache
def expected(case: Case) -> dict:
    """Return the exact float32 reference on the inputs of `case` (as rounded to its dtype)."""
    arrays = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(np.float32)), inputs(case))
    return outputs_and_gradients(replace(case, dtype="float32", precision="highest"), "reference", arrays)


def assert_agrees(case: Case, implementation: str | None = "pallas", ratio: float = 1e-5) -> None:
    """Compare all outputs and gradients with the reference, by RMS ratio."""
    actual, references = outputs_and_gradients(case, implementation, inputs(case)), expected(case)
    assert actual.keys() == references.keys()
    for name, value in references.items():
        assert_close(f"{implementation} {name}", actual[name], value, ratio)
