"""Program of tests/kernels/test_sharding.py: its own process, eight CPU devices, non-zero exit on any mismatch."""

import functools

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels import triple_attention
from tests.kernels.triple_attention.cases import Case, differentiated, expected, inputs
from tests.numerics import assert_close

CASE = Case(batch=2, points=48)
POINTS = P("data", "points")


def make_mesh() -> jax.sharding.Mesh:
    """Return two groups of samples times four groups of points."""
    return jax.make_mesh((2, 4), ("data", "points"), axis_types=(AxisType.Auto,) * 2)


def under_shard_map(mesh: jax.sharding.Mesh, implementation: str, check_vma: bool):
    """Return the operation with samples and points sharded."""
    local = functools.partial(triple_attention, implementation=implementation, axis_name="points", return_state=True)
    return jax.shard_map(local, mesh=mesh, in_specs=(POINTS,) * 5, out_specs=(POINTS, P("data")), check_vma=check_vma)


def check(label: str, attend, operands: dict) -> None:
    """Compare with the unsharded reference."""
    actual = jax.jit(differentiated(attend))(operands)
    for name, value in expected(CASE).items():
        assert_close(f"{label} {name}", np.asarray(actual[name]), value, 1e-5)


def main() -> None:
    """Run every way of sharding."""
    assert jax.device_count() == 8
    mesh = make_mesh()
    placed = {name: jax.device_put(x, NamedSharding(mesh, POINTS)) for name, x in inputs(CASE).items()}
    for implementation, check_vma in (("xla", True), ("xla", False), ("pallas", False)):
        label = f"shard_map {implementation} check_vma={check_vma}"
        check(label, under_shard_map(mesh, implementation, check_vma), placed)
    # What the kernels compute is compared above; their types on a mesh with typed axes are checked by tracing.
    jax.eval_shape(differentiated(under_shard_map(mesh, "pallas", True)), placed)
    for implementation in ("reference", "xla"):
        attend = functools.partial(triple_attention, implementation=implementation, return_state=True)
        check(f"automatic {implementation}", attend, placed)
    print("all shardings agree")


if __name__ == "__main__":
    main()
