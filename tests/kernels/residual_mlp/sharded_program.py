"""Program of tests/kernels/test_sharding.py: its own process, eight CPU devices, non-zero exit on any mismatch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels import times_matrix
from kernels.residual_mlp import backward, table
from kernels.residual_mlp.plan import Tiling
from tests.kernels.residual_mlp.cases import BLOCK, Case, apply, expected, inputs
from tests.numerics import assert_close, cotangent, round_to_bfloat16

CASES = (replace(BLOCK, leading=(2, 48)), Case(leading=(2, 48), branches=2, norm="layer"))
ROWS = P("data", "points")


def specs(arrays: dict) -> dict:
    """Return the partition specs: rows sharded, parameters replicated."""
    result = jax.tree.map(lambda leaf: P(), arrays) | {"x": ROWS}
    if "projection" in arrays:
        result["projection"] = replace(result["projection"], skip=ROWS)
    return result


def cotangents(outputs: tuple) -> tuple:
    """Return the cotangents that `expected` uses."""
    drawn = (cotangent(i, y.shape) for i, y in enumerate(outputs))
    return tuple(round_to_bfloat16(c) for c in drawn)


def differentiated(function, arrays: dict) -> dict:
    """Return outputs and gradients of a function of global arrays."""
    outputs, pull_back = jax.vjp(function, arrays)
    return {"output": outputs, "gradient": pull_back(cotangents(outputs))[0]}


def differentiated_inside(case: Case, mesh: jax.sharding.Mesh, arrays: dict, *, check_vma: bool) -> dict:
    """Return outputs and gradients, differentiated on the devices, where unchecked code must add up by itself."""

    def local(arrays: dict, cotangents: tuple) -> dict:
        outputs, pull_back = jax.vjp(lambda a: apply(case, a, "pallas"), arrays)
        (gradients,) = pull_back(cotangents)
        if not check_vma:
            add_up = lambda g, spec: g if spec == ROWS else jax.lax.psum(g, ("data", "points"))  # noqa: E731
            gradients = jax.tree.map(add_up, gradients, specs(arrays))
        return {"output": outputs, "gradient": gradients}

    outputs = jax.eval_shape(lambda a: apply(case, a, "reference"), arrays)
    rows = tuple(ROWS for _ in outputs)
    sharded = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(specs(arrays), rows),
        out_specs={"output": rows, "gradient": specs(arrays)},
        check_vma=check_vma,
    )
    return sharded(arrays, cotangents(outputs))


def sharded_op(case: Case, mesh: jax.sharding.Mesh, arrays: dict, *, check_vma: bool):
    """Return the op on global arrays with the rows sharded."""
    rows = (ROWS,) * case.branches
    return jax.shard_map(
        lambda a: apply(case, a, "pallas"), mesh=mesh, in_specs=(specs(arrays),), out_specs=rows, check_vma=check_vma
    )


def check(case: Case, label: str, actual: dict) -> None:
    """Compare with the unsharded reference."""
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.flatten_with_path(actual)[0]}
    for name, value in expected(case).items():
        assert_close(f"{label} {name}", np.asarray(leaves[name]), value, 1e-5)


def check_case(case: Case, mesh: jax.sharding.Mesh) -> None:
    """Run every way of sharding one case."""
    arrays = inputs(case)
    placed = jax.tree.map(lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), arrays, specs(arrays))
    programs = {
        "gradient outside": lambda a: differentiated(sharded_op(case, mesh, a, check_vma=False), a),
        "gradient inside": lambda a: differentiated_inside(case, mesh, a, check_vma=False),
    }
    for label, program in programs.items():
        check(case, label, jax.jit(program)(placed))
    # What the kernels compute is compared above; their types on a mesh with typed axes are checked by tracing.
    typed = {
        "outside": lambda a: differentiated(sharded_op(case, mesh, a, check_vma=True), a),
        "inside": lambda a: differentiated_inside(case, mesh, a, check_vma=True),
    }
    for label, program in typed.items():
        shapes = jax.eval_shape(program, placed)
        assert jax.tree.map(jnp.shape, shapes["gradient"]) == jax.tree.map(jnp.shape, arrays), label


def check_narrow_gradient(axes: AxisType, rows: tuple[int, ...]) -> None:
    """Compile the gradient of a narrow matrix, summed over many rows: devices that share them gather none."""
    mesh = jax.make_mesh((2, 4), ("data", "points"), axis_types=(axes,) * 2)
    x, matrix = (
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for shape, spec in (((*rows, 8), ROWS), ((8, 2), P()))
    )
    gradient = jax.jit(jax.grad(lambda *x: jnp.sum(jnp.sin(times_matrix(*x))), argnums=(0, 1)))
    text = gradient.lower(x, matrix).compile().as_text()
    assert "all-reduce" in text
    assert "all-gather" not in text


def main() -> None:
    """Run all cases, the last one with stored factors of one part of the rows at a time."""
    assert jax.device_count() == 8
    for axes in (AxisType.Auto, AxisType.Explicit):
        check_narrow_gradient(axes, (4, 2**14))
    check_narrow_gradient(AxisType.Auto, (4, 2**12, 4))
    mesh = jax.make_mesh((2, 4), ("data", "points"), axis_types=(AxisType.Auto,) * 2)
    for case in CASES:
        check_case(case, mesh)
    tiling = Tiling(rows=16, warps=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backward, "_FACTOR_BYTES", 1)
        launch = table.Blocks(tiling, replace(tiling, factored=True))
        patch.setattr(table, "OPERATION", table.OPERATION.with_launch(launch))
        check_case(replace(CASES[0], leading=(2, 96)), mesh)
    print("all shardings agree")


if __name__ == "__main__":
    main()
