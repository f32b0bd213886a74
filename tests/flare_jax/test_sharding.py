"""Models whose kernels run on a mesh of devices, in a process of their own."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from flare_jax.mixers.flare_attention import FlareAttention, FlareAttentionConfig
from flare_jax.parameter_keys import ParameterKeys
from tests.experiments.programs import environment
from tests.program_server import run_program

pytestmark = pytest.mark.slow

EIGHT = environment(
    XLA_FLAGS="--xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu", JAX_DEFAULT_MATMUL_PRECISION="highest"
)


def test_eight_devices_agree_with_one():
    result = run_program("tests.flare_jax.sharded_program", [], env=EIGHT)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "all shardings agree" in result.stdout


def test_a_mesh_of_one_device_changes_nothing():
    mixer = FlareAttention(8, FlareAttentionConfig(num_heads=2, num_latents=4), rngs=ParameterKeys(0))
    x = jnp.ones((2, 6, 8))

    def program() -> str:
        return jax.jit(lambda x: mixer(x)).lower(x).as_text()

    without = program()
    mesh = jax.make_mesh((1, 1), ("data", "points"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:1])
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        assert program() == without
