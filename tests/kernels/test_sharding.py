"""Each op with its points or rows sharded over a mesh, under shard_map and under plain jit, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("op", ["flare_mixer", "gather", "residual_mlp", "triple_attention"])
def test_eight_devices_agree_with_one(op):
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    }
    result = subprocess.run(
        [sys.executable, "-m", f"tests.kernels.{op}.sharded_program"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "all shardings agree" in result.stdout
