"""Program of tests/flare_jax/test_sharding.py: its own process, eight CPU devices, non-zero exit on any mismatch."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flare_jax import params as model_params
from flare_jax.mixers.triple_attention import TripleAttention, TripleConfig
from flare_jax.models.clouds import CloudModel
from flare_jax.models.registry import build_model
from flare_jax.models.waiting_points import WaitingPoints
from flare_jax.parameter_keys import ParameterKeys
from tests.numerics import assert_close

SIZES = {
    "channel_dim": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "num_latents": 4,
    "num_layers_in_out_proj": -1,
    "num_layers_k_proj": 0,
    "num_layers_v_proj": 0,
    "num_layers_ffn": 0,
}
KERNELS = {"implementation": "pallas", "mlp_implementation": "pallas"}
PLAIN = {"implementation": "xla", "mlp_implementation": "reference"}


@dataclass(frozen=True)
class Case:
    """FLARE on points [batch, points, 2]; `whole` says that the mesh does not divide one of these sizes."""

    batch: int = 2
    points: int = 24
    masked: bool = False
    implementations: dict[str, str] = field(default_factory=lambda: KERNELS)
    options: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    def differentiated(self, implementations: dict[str, str]) -> Callable[..., Any]:
        """Return the function of loss and gradients of parameters, points, mask and targets."""
        graphdef, _ = model_params.split(nnx.eval_shape(lambda: self.model(implementations)))
        apply = model_params.apply_fn(graphdef)

        def loss(params, x, mask, y):
            error = jnp.square(apply(params, x, mask) - y)
            return jnp.mean(error if mask is None else jnp.where(mask[..., None], error, 0))

        return jax.value_and_grad(loss)

    def model(self, implementations: dict[str, str]) -> nnx.Module:
        """Return the model."""
        return build_model("flare", 2, 1, SIZES | self.options | implementations, rngs=ParameterKeys(0))

    def arguments(self) -> tuple[Any, ...]:
        """Return parameters, points, mask and targets."""
        rng = np.random.default_rng(0)
        x, y = (rng.standard_normal((self.batch, self.points, c)).astype(np.float32) for c in (2, 1))
        mask = rng.random(x.shape[:2]) > 0.3 if self.masked else None
        return _parameters(tuple(self.options.items())), x, mask, y

    def expected(self) -> tuple[Any, Any]:
        """Return loss and gradients by plain array code on one device."""
        return _expected(self.batch, self.points, self.masked, tuple(self.options.items()))


# What cases have in common is computed once.
@functools.cache
def _parameters(options: tuple[tuple[str, Any], ...]) -> model_params.Params:
    return model_params.split(Case(options=dict(options)).model({}))[1]


@functools.cache
def _expected(batch: int, points: int, masked: bool, options: tuple[tuple[str, Any], ...]) -> tuple[Any, Any]:
    case = Case(batch, points, masked, options=dict(options))
    return jax.jit(case.differentiated(PLAIN))(*case.arguments())


CASES = (
    Case(masked=True, options={"qk_norm": True, "num_layers_ffn": 1}),
    Case(batch=3, whole=True),
    Case(points=21, masked=True, whole=True),
    Case(batch=1, points=5, implementations={}, whole=True),
    Case(masked=True, implementations={}),
    Case(masked=True, implementations=PLAIN),
)


def make_mesh() -> jax.sharding.Mesh:
    """Return two groups of samples times four groups of points."""
    return jax.make_mesh((2, 4), ("data", "points"), axis_types=(AxisType.Auto,) * 2)


def check(case: Case, mesh: jax.sharding.Mesh) -> None:
    """Compare loss and gradients on the mesh with those of plain array code on one device."""
    loss, gradients = case.expected()
    params, *points = case.arguments()
    rows = NamedSharding(mesh, P() if case.whole else P("data", "points"))
    placed = (jax.device_put(params, NamedSharding(mesh, P())), *jax.device_put(points, rows))
    with jax.set_mesh(mesh):
        program = jax.jit(case.differentiated(case.implementations)).lower(*placed).compile()
        sharded_loss, sharded_gradients = program(*placed)
    assert case.whole or "all-gather" not in program.as_text(), f"{case} gathers points on every device"
    np.testing.assert_allclose(sharded_loss, loss, rtol=1e-5)
    for name, value in gradients.items():
        assert_close(f"{case} {name}", np.asarray(sharded_gradients[name]), np.asarray(value), 1e-5)


def check_cudnn(mesh: jax.sharding.Mesh) -> None:
    """A kernel that cannot merge points is refused, not run on a part of them."""
    case = Case()
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="'cudnn' cannot merge"):
        jax.eval_shape(case.differentiated({"implementation": "cudnn"}), *case.arguments())


def check_triple_attention(mesh: jax.sharding.Mesh) -> None:
    """Sequence models take this mixer, whose state is summed over all points."""
    x = np.random.default_rng(0).standard_normal((2, 24, 8)).astype(np.float32)

    def mix(implementation: str) -> Callable[..., jax.Array]:
        config = TripleConfig(num_heads=2, implementation=implementation, mlp_implementation="reference")
        mixer = TripleAttention(8, config, rngs=ParameterKeys(0))
        return jax.jit(lambda x: mixer(x))

    expected = mix("xla")(x)
    with jax.set_mesh(mesh):
        actual = mix("pallas")(jax.device_put(x, NamedSharding(mesh, P("data", "points"))))
    assert_close("triple attention", np.asarray(actual), np.asarray(expected), 1e-5)


def check_clouds(mesh: jax.sharding.Mesh) -> None:
    """What one device has encoded others decode; page-locked memory is counted for the copies of all devices."""
    model = Case(implementations=PLAIN).model(PLAIN)
    x = np.random.default_rng(0).standard_normal((1, 24, 2)).astype(np.float32)
    cloud = CloudModel(model, points_per_piece=8)
    encoded, expected = cloud.encode(x), cloud(x)
    graphdef, params = nnx.split(model)
    for place in (jax.devices()[1], NamedSharding(mesh, P())):
        moved = CloudModel(nnx.merge(graphdef, jax.device_put(params, place)), points_per_piece=8)
        assert_close(f"decoded on {place}", moved.decode(encoded, x), expected, 1e-6)
        assert_close(f"predicted on {place}", moved(x), expected, 1e-6)
    with jax.default_device(jax.devices()[1]):
        assert_close("decoded on the default device", cloud.decode(encoded, x), expected, 1e-6)
    piece = jnp.ones((1, 4, 8))
    for place, locked in ((jax.devices()[1], True), (NamedSharding(mesh, P()), False)):
        waiting = WaitingPoints("host", points=2**28)  # 8 GiB of 32 that may be locked, 64 as copies
        waiting[0] = jax.device_put(piece, place)
        assert isinstance(waiting.pieces[0], jax.Array) == locked


def main() -> None:
    """Check every case."""
    assert jax.device_count() == 8
    mesh = make_mesh()
    for case in CASES:
        check(case, mesh)
    check_cudnn(mesh)
    check_triple_attention(mesh)
    check_clouds(mesh)
    print("all shardings agree")


if __name__ == "__main__":
    main()
