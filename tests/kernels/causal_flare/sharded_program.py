"""Program of tests/kernels/test_sharding.py: its own process, eight CPU devices, non-zero exit on any mismatch."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from kernels import causal_flare
from tests.numerics import assert_close, cotangent

BATCH, TOKENS, HEADS, LATENTS, WIDTH = 2, 72, 2, 5, 8
SHARDED = P("data", "points")


def arguments() -> tuple[dict, dict, dict]:
    """Return latents, arrays of tokens and what has no gradient, with large logits, padding and resets."""
    rng = np.random.default_rng(0)
    latents, tokens = (HEADS, LATENTS, WIDTH), (BATCH, TOKENS, HEADS, WIDTH)
    parameters = {name: rng.standard_normal(latents) for name in ("q", "q_decode")}
    arrays = {name: rng.standard_normal(tokens) for name in ("k", "v", "k_decode")}
    arrays["k"] *= np.where(np.arange(TOKENS) % 7 == 0, 30, 1)[:, None, None]
    arrays["log_decay"] = -0.1 * rng.random((BATCH, TOKENS, HEADS))
    # One in the middle of a device's tokens, one where they begin; one sample forgets nothing.
    arrays["log_decay"][0, [25, 36]] = -np.inf
    mask = np.broadcast_to(np.arange(TOKENS) < 61, (BATCH, TOKENS)).copy()
    mask[1, 18:36] = False
    parameters, arrays = (
        {name: jnp.asarray(x, jnp.float32) for name, x in group.items()} for group in (parameters, arrays)
    )
    return parameters, arrays, {"mask": jnp.asarray(mask)}


def gradients(mix, parameters: dict, arrays: dict, fixed: dict) -> dict:
    """Return y and the gradients of everything but the mask."""

    @jax.jit
    def run(parameters: dict, arrays: dict) -> tuple:
        y, pull_back = jax.vjp(lambda p, x: mix(p, x | fixed), parameters, arrays)
        return y, *pull_back(cotangent(0, y.shape))

    y, of_parameters, of_arrays = run(parameters, arrays)
    return {"y": y} | {f"d{name}": x for name, x in (of_parameters | of_arrays).items()}


def check_states(mesh: jax.sharding.Mesh, parameters: dict, arrays: dict, fixed: dict) -> None:
    """Compare the state after all tokens, and its gradients, with one device's, from a state that is given."""
    start = jax.jit(lambda: causal_flare(**parameters, **arrays, **fixed, return_state=True)[1])()

    def loss(axis_name: str | None, parameters: dict, arrays: dict, start: tuple) -> jax.Array:
        def after(parameters: dict, arrays: dict, start: tuple) -> tuple:
            options = {"initial_state": start, "axis_name": axis_name, "return_state": True}
            return causal_flare(**parameters, **arrays, scale=0.3, **options)[1]

        if axis_name is not None:
            spec = P("data", axis_name)
            after = jax.shard_map(
                after, mesh=mesh, in_specs=(P(), spec, P("data")), out_specs=P("data"), check_vma=False
            )
        state = after(parameters, arrays | fixed, start)
        return jnp.sum(jnp.sin(state.total / state.mass[..., None]))

    expected, actual = (
        jax.jit(jax.grad(loss, argnums=(1, 2, 3)), static_argnums=0)(axis, parameters, arrays, start)
        for axis in (None, "points")
    )
    expected, actual = ((*x[:2], x[2].mass, x[2].total) for x in (expected, actual))
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * max(float(jnp.max(jnp.abs(other))), 1e-3))


def main() -> None:
    """Compare every way of sharding with the reference on one device."""
    assert jax.device_count() == 8
    parameters, arrays, fixed = arguments()
    expected = gradients(
        lambda p, x: causal_flare(**p, **x, scale=0.3, implementation="reference"), parameters, arrays, fixed
    )
    mesh = jax.make_mesh((2, 4), ("data", "points"), axis_types=(AxisType.Auto,) * 2)
    # Either way of typing, either backend: what is theirs alone does not meet. States are compared without types.
    for implementation, check_vma in (("xla", True), ("pallas", False)):

        def local(parameters: dict, arrays: dict) -> jax.Array:
            return causal_flare(**parameters, **arrays, scale=0.3, axis_name="points", implementation=implementation)

        mix = jax.shard_map(local, mesh=mesh, in_specs=(P(), SHARDED), out_specs=SHARDED, check_vma=check_vma)
        actual = gradients(mix, parameters, arrays, fixed)
        for name, value in expected.items():
            assert_close(f"{implementation} check_vma={check_vma} {name}", np.asarray(actual[name]), value, 2e-5)
    check_states(mesh, parameters, arrays, fixed)
    print("all shardings agree")


if __name__ == "__main__":
    main()
