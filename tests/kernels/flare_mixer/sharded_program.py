"""Program of tests/kernels/test_sharding.py: its own process, eight CPU devices, non-zero exit on any mismatch."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels import flare_mixer
from kernels._held import is_close
from kernels.flare_mixer import pallas_scatter, table
from kernels.gather import pallas_forward
from tests.kernels.flare_mixer.cases import Case, expected, inputs
from tests.kernels.flare_mixer.test_held import launches
from tests.numerics import assert_close, cotangent, round_to_bfloat16

CASE = Case(batch=2, points=48, latents=5, masked=True)
POINTS = P("data", "points")


def make_mesh() -> jax.sharding.Mesh:
    """Return two groups of samples times four groups of points."""
    return jax.make_mesh((2, 4), ("data", "points"), axis_types=(AxisType.Auto,) * 2)


def empty_on_the_last_device(arguments: dict) -> dict:
    """Return the arguments with values of zero for the points of the last device: padding without a mask."""
    last = jnp.arange(CASE.points) >= CASE.points * 3 // 4
    return arguments | {"v": jnp.where(last[:, None, None], 0.0, arguments["v"])}


def differentiated(mix):
    """Return the function of y, z and the gradients of q, k and v, for the cotangents that `expected` uses."""

    def run(arguments: dict) -> dict:
        floats = {name: arguments[name] for name in "qkv"}
        (y, z), pull_back = jax.vjp(lambda f: mix(f["q"], f["k"], f["v"], arguments["mask"]), floats)
        dy, dz = (cotangent(i, x.shape) for i, x in enumerate((y, z)))
        (gradients,) = pull_back((round_to_bfloat16(dy).astype(y.dtype), dz))
        return {"y": y, "z": z} | {f"d{name}": x for name, x in gradients.items()}

    return run


def evaluate(mix, arguments: dict) -> dict:
    """Return y, z and the gradients of q, k and v."""
    run = jax.jit(differentiated(mix))
    return {name: np.asarray(x) for name, x in run(arguments).items()}


def under_shard_map(mesh: jax.sharding.Mesh, implementation: str, check_vma: bool):
    """Return the mixer with samples and points sharded, latents replicated."""

    def local(q, k, v, mask):
        return flare_mixer(q, k, v, mask=mask, implementation=implementation, axis_name="points", return_latents=True)

    specs = (P(), POINTS, POINTS, POINTS)
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=(POINTS, P("data")), check_vma=check_vma)


def check(label: str, actual: dict) -> None:
    """Compare with the unsharded reference."""
    for name, value in expected(CASE).items():
        assert_close(f"{label} {name}", actual[name], value, 1e-5)


def check_empty_device(mesh: jax.sharding.Mesh, placed: dict) -> None:
    """A device all of whose values and cotangents are zero still takes part in latents of another size."""
    arguments = empty_on_the_last_device(placed)
    dy = round_to_bfloat16(cotangent(0, arguments["v"].shape))
    dy = empty_on_the_last_device({"v": dy})["v"]

    def gradients(mix):
        def run(arguments: dict) -> tuple:
            floats = [arguments[name] for name in "qkv"]
            (y, z), pull_back = jax.vjp(lambda q, k, v: mix(q, k, v, arguments["mask"]), *floats)
            return (y, *pull_back((dy, jnp.zeros_like(z))))

        return jax.jit(run)(arguments)

    expected_values = gradients(functools.partial(unsharded, "reference"))
    actual = gradients(under_shard_map(mesh, "pallas", check_vma=False))
    for name, one, other in zip(("y", "dq", "dk", "dv"), actual, expected_values, strict=True):
        assert_close(f"empty device {name}", np.asarray(one), np.asarray(other), 1e-5)


def check_held(mesh: jax.sharding.Mesh) -> None:
    """References that are held: of the scatter one head is run again, of the gather none, which has one tile each."""
    table.OPERATION = table.OPERATION.with_launch(launches("bfloat16"))
    found = set()

    def recorded(mass):
        close = is_close(mass)
        return jax.pure_callback(lambda x: found.update(map(tuple, np.asarray(x)[..., 0].tolist())) or x, close, close)

    pallas_scatter.is_close = pallas_forward.is_close = recorded
    arguments = inputs(replace(CASE, masked=False, dtype="bfloat16", logits=4.0)) | {"mask": None}
    arguments["q"] = arguments["q"] * jnp.array([1.0, 120.0], jnp.bfloat16)[:, None, None]
    actual = evaluate(under_shard_map(mesh, "pallas", True), arguments)
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), arguments)
    for name, value in evaluate(functools.partial(unsharded, "reference"), exact).items():
        assert_close(f"held {name}", actual[name].astype(np.float32), value, 1e-1)
    assert found == {(True, True), (True, False)}, found


def unsharded(implementation: str, q, k, v, mask):
    """Return the mixed points and the latents."""
    return flare_mixer(q, k, v, mask=mask, implementation=implementation, return_latents=True)


def main() -> None:
    """Run every way of sharding."""
    assert jax.device_count() == 8
    mesh, arguments = make_mesh(), inputs(CASE)
    placed = {
        name: jax.device_put(x, NamedSharding(mesh, P() if name == "q" else POINTS)) for name, x in arguments.items()
    }
    # Types are what kernels must give their results; array code has them by itself.
    for implementation, check_vma in (("xla", True), ("pallas", True), ("pallas", False)):
        mix = under_shard_map(mesh, implementation, check_vma)
        check(f"shard_map {implementation} check_vma={check_vma}", evaluate(mix, placed))
    for implementation in ("reference", "xla"):
        check(f"automatic {implementation}", evaluate(functools.partial(unsharded, implementation), placed))
    check_empty_device(mesh, placed)
    check_held(mesh)
    print("all shardings agree")


if __name__ == "__main__":
    main()
