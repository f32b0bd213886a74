"""Points sharded over a mesh axis: under shard_map with a summed state, and under plain jit."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_eight_devices_agree_with_one():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    }
    result = subprocess.run(
        [sys.executable, "-m", "tests.kernels.triple_attention.sharded_program"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "all shardings agree" in result.stdout
