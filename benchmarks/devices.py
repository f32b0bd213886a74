"""How does a training step scale over the GPUs of one host? Run on several GPUs:

    python -m benchmarks.devices --config=configs/flare_drivaerml_1m.py
    python -m benchmarks.devices --config=configs/flare_elas.py --config.train.batch_size=8 --meshes=1x1,4x1,2x2

Times the config's own training step on random data of the data set's shape, as benchmarks.train_step does, on meshes of
data x points devices, each in a process of its own so that the peak memory, that of the first device, is its own. Loss
and gradient norm of the first step are compared with those of the first mesh.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from benchmarks.options import checked_config, define_counts
from benchmarks.timing import device_line, print_table, write_results
from benchmarks.train_step import data_shape, random_dataset, setup_of, time_steps
from experiments import cli, program
from experiments.errors import UserError
from experiments.training.costs import allocator_peak
from experiments.training.mesh import make_mesh

FLAGS = flags.FLAGS
HEADER = ("mesh", "ms/step (median)", "speed-up", "peak GiB", "loss differs by", "gradient norm differs by")


def measure(config: Any, mesh: str, steps: int, repeats: int) -> dict[str, Any]:
    """Return the figures of the config's training step on a mesh such as "1x4"."""
    data, points = sizes(mesh)
    dataset = random_dataset(config.data.name, max(config.train.batch_size * steps, 8))
    with program.matmul_precision(config):
        setup = setup_of(config, dataset, make_mesh(data, points))
        seconds, compile_seconds, metrics = time_steps(setup, config, steps, repeats)
    peak = allocator_peak()
    return {
        "mesh": mesh,
        "step_ms": 1e3 * seconds,
        "compile_s": compile_seconds,
        "peak_gib": None if peak is None else peak / 2**30,
        "loss": float(metrics["loss"][0]),
        "grad_norm": float(metrics["grad_norm"][0]),
    }


def sizes(mesh: str) -> tuple[int, int]:
    """Return the numbers of devices along the batch and along the points; raises UserError for another text."""
    parts = mesh.split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UserError(f"--meshes has {mesh!r}; give devices along the batch x along the points, such as 1x4")
    return int(parts[0]), int(parts[1])


def measure_apart(mesh: str) -> dict[str, Any]:
    """Return what this program measures on one mesh in a process of its own; ends with it where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        # The last of several equal flags counts.
        command = [sys.executable, "-m", "benchmarks.devices", *sys.argv[1:], f"--meshes={mesh}", f"--output={output}"]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if finished.returncode:
            sys.exit(finished.returncode)
        return json.loads(output.read_text())["meshes"][0]


def row(result: dict[str, Any], first: dict[str, Any]) -> Sequence[str]:
    """Return the cells of one mesh beside the figures of the first."""
    differences = (abs(result[name] - first[name]) / abs(first[name]) for name in ("loss", "grad_norm"))
    peak = result["peak_gib"]
    return (
        result["mesh"],
        f"{result['step_ms']:.3f}",
        f"{first['step_ms'] / result['step_ms']:.2f}x",
        "-" if peak is None else f"{peak:.2f}",
        *(f"{difference:.1e}" for difference in differences),
    )


def main() -> None:
    """Time every mesh and print one table."""
    config, results = checked_config("configs/flare_elas.py"), []
    if not FLAGS.meshes:
        raise UserError("--meshes= is empty; give devices along the batch x along the points, such as 1x4")
    for mesh in FLAGS.meshes:
        sizes(mesh)
    shape = data_shape(config.data.name)
    about = {"config": config.name, "batch": config.train.batch_size, **shape, "dtype": config.train.dtype}
    for mesh in FLAGS.meshes:
        alone = len(FLAGS.meshes) == 1
        results.append(measure(config, mesh, FLAGS.steps, FLAGS.repeats) if alone else measure_apart(mesh))
        print(f"{mesh}: {results[-1]['step_ms']:.3f} ms/step", flush=True)
    # Only now, for a process that asks for its devices takes their memory from the others.
    print(f"{about}, {jax.device_count()} devices, {device_line()}")
    print_table(HEADER, [row(result, results[0]) for result in results])
    write_results(FLAGS.output, {**about, "meshes": results})


if __name__ == "__main__":
    cli.define_flags()
    flags.DEFINE_list("meshes", ["1x1", "1x2", "1x4"], "Devices along the batch x along the points.")
    define_counts(
        steps=(10, "Optimizer steps per measurement."),
        repeats=(5, "Measurements; the median is reported."),
    )
    flags.DEFINE_string("output", None, "JSON file for the results.")
    cli.run(main)
