"""Running the programs as a user does: subprocesses on miniature data of the true layout."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.experiment import Program, run
from experiments.program import Request
from tests.program_server import run_program

ROOT = Path(__file__).parents[2]

# A network and a run so small that compiling takes longer than training. Both splits are of one size, so that they are
# evaluated by one program; figures take as long as all the rest.
TINY = (
    "--config=configs/flare_elas.py:smoke",
    "--config.data.source=files",
    "--config.data.n_train=16",
    "--config.data.n_test=16",
    "--config.model.channel_dim=8",
    "--config.model.num_blocks=1",
    "--config.model.num_heads=2",
    "--config.model.num_latents=4",
    "--config.model.num_layers_k_proj=0",
    "--config.model.num_layers_v_proj=0",
    "--config.model.num_layers_ffn=0",
    "--config.model.num_layers_in_out_proj=0",
    "--config.train.batch_size=4",
    "--config.train.epochs=2",
    "--config.optimizer.name=adamw",
    "--config.eval.batch_size=8",
    "--config.eval.simple_predictors=False",
    "--config.figures=False",
)


def write_elasticity(data_dir: Path, samples: int = 32, num_points: int = 972) -> Path:
    """Write fake elasticity files of the public layout; return their folder."""
    folder = data_dir / "Geo-FNO" / "elasticity" / "Meshes"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    points = rng.random((num_points, 2, samples)).astype(np.float32)
    stress = 100 + 50 * np.sin(3 * points[:, 0] + points[:, 1] * rng.random(samples))
    np.save(folder / "Random_UnitCell_XY_10.npy", points)
    np.save(folder / "Random_UnitCell_sigma_10.npy", stress.astype(np.float32))
    return folder


def write_darcy_small(data_dir: Path) -> Path:
    """Write fake small Darcy files of the public layout; return their folder."""
    folder = data_dir / "darcy_small"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, samples, side in (("train_16", 12, 16), ("test_16", 5, 16), ("test_32", 5, 32)):
        shape = (samples, side, side)
        np.savez(folder / f"darcy_{name}.npz", x=rng.random(shape) > 0.5, y=rng.random(shape).astype(np.float32))
    return folder


def draw_no_more(run: Path) -> None:
    """Let later evaluations of a run draw no figures."""
    config = json.loads((run / "config.json").read_text())
    config["config"]["figures"] = False
    (run / "config.json").write_text(json.dumps(config))


def run_here(program: Program, config: ConfigDict, folder: Path, **request: Any) -> dict[str, Any]:
    """Run a program with a configuration in this process, and return the content of its file of results.

    Such runs are short, so the machine code is not optimised: compiling takes longer than running.
    """
    results = "timing.json" if request.get("mode") == "time" else "eval.json"
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        run(Request(config, folder, request.pop("given", None) or {}, **request), program)
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    return json.loads((folder / results).read_text())


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment with `changes`; matmul precision and the like stay at the user's defaults.

    XLA_FLAGS are added to those of the suite.
    """
    if "XLA_FLAGS" in changes:
        changes["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {changes['XLA_FLAGS']}"
    return {**os.environ, **changes}


def pdebench(
    *arguments: str, env: dict[str, str] | None = None, largest_file_kib: int | None = None
) -> subprocess.CompletedProcess:
    """Run `python -m experiments.pdebench` from the repository root.

    `largest_file_kib` makes every write beyond that size of a file fail, as on a disk that fills up.
    """
    return run_program("experiments.pdebench", arguments, env=env, largest_file_kib=largest_file_kib)
