"""Each op with its points or rows sharded over a mesh, under shard_map and under plain jit, in a process of its own."""

import pytest

from tests.experiments.programs import environment
from tests.program_server import run_program

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("op", ["flare_mixer", "causal_flare", "gather", "residual_mlp", "triple_attention"])
def test_eight_devices_agree_with_one(op):
    eight = environment(
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
        JAX_PLATFORMS="cpu",
        JAX_DEFAULT_MATMUL_PRECISION="highest",
    )
    result = run_program(f"tests.kernels.{op}.sharded_program", [], env=eight)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "all shardings agree" in result.stdout
