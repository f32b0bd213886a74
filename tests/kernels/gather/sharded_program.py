"""Program of tests/kernels/test_sharding.py: its own process, eight CPU devices, non-zero exit on any mismatch."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from kernels import flarepp_mixer
from tests.numerics import assert_close, cotangent

BATCH, POINTS, HEADS, LATENTS, WIDTH = 2, 48, 2, 5, 8
SHARDED = P("data", "points")


def arguments() -> tuple[dict, dict]:
    """Return replicated parameters and arrays of points; the last device along the points has no real ones."""
    rng = np.random.default_rng(0)
    latents, points = (HEADS, LATENTS, WIDTH), (BATCH, POINTS, HEADS, WIDTH)
    parameters = {name: rng.standard_normal(latents) for name in ("q0", "q_fixed")} | {"gate": rng.random(HEADS)}
    parameters, arrays = (
        {name: jnp.asarray(x, jnp.float32) for name, x in group.items()}
        for group in (parameters, {name: rng.standard_normal(points) for name in ("k0", "k", "v")})
    )
    mask = np.broadcast_to(np.arange(POINTS) < POINTS * 3 // 4, (BATCH, POINTS)).copy()
    mask[:, :3] = False
    return parameters, arrays | {"mask": jnp.asarray(mask)}


def gradients(mix, parameters: dict, arrays: dict) -> dict:
    """Return y and the gradients of everything but the mask."""

    @jax.jit
    def run(parameters: dict, arrays: dict) -> tuple:
        mask = arrays["mask"]
        floats = {name: x for name, x in arrays.items() if name != "mask"}
        y, pull_back = jax.vjp(lambda p, x: mix(p, x | {"mask": mask}), parameters, floats)
        return y, *pull_back(cotangent(0, y.shape))

    y, of_parameters, of_arrays = run(parameters, arrays)
    return {"y": y} | {f"d{name}": x for name, x in (of_parameters | of_arrays).items()}


def main() -> None:
    """Compare every way of sharding with the reference on one device."""
    assert jax.device_count() == 8
    parameters, arrays = arguments()
    expected = gradients(
        lambda p, x: flarepp_mixer(**p, **x, scale=0.3, implementation="reference"), parameters, arrays
    )
    mesh = jax.make_mesh((2, 4), ("data", "points"), axis_types=(AxisType.Auto,) * 2)
    # Types are what kernels must give their results; array code has them by itself.
    for implementation, check_vma in (("xla", True), ("pallas", True), ("pallas", False)):

        def local(parameters: dict, arrays: dict) -> jax.Array:
            return flarepp_mixer(**parameters, **arrays, scale=0.3, axis_name="points", implementation=implementation)

        mix = jax.shard_map(local, mesh=mesh, in_specs=(P(), SHARDED), out_specs=SHARDED, check_vma=check_vma)
        actual = gradients(mix, parameters, arrays)
        for name, value in expected.items():
            assert_close(f"{implementation} check_vma={check_vma} {name}", np.asarray(actual[name]), value, 1e-5)
    print("all shardings agree")


if __name__ == "__main__":
    main()
