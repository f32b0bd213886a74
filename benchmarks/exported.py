"""Does an exported run give the same fields on every device, with jax alone?

    python -m benchmarks.exported --workdir=out/ellipses --model=model.jax --input=data/ellipses/test/ellipse_0226.npz

The model is what the run gives on the CPU in float32 in full. Compared with it are the file, which a process that
imports jax alone runs on the CPU and on the GPU, and the run itself on the GPU, in full and with the products of its
training (TF32 unless its configuration says otherwise). An error is the largest at any point, in units of the field's
largest value. The status is 1 where one is larger than 1e-5, or that of products in TF32 than 1e-2.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

import flare_jax
from benchmarks.command import exit_status
from data_pipeline.custom.readers import Reference, read_sample
from experiments.errors import UserError
from experiments.export.function import ExportedFunction
from experiments.export.main import TOLERANCE
from experiments.predict.signature import Signature
from flare_jax.convert.trained import TrainedModel, read_trained
from runtime.command import Parser

EXAMPLE = Path(__file__).parent.parent / "docs/examples/predict_jax.py"
# Products of 10 bits, in every layer of a deep network.
_TF32 = 1e-2
_DRAWN = 1000

Arrays = Mapping[str, np.ndarray]


def arguments_of(trained: TrainedModel, function: ExportedFunction, path: Path | None) -> dict[str, np.ndarray]:
    """Return points and inputs by name, in float32: those of a file, or drawn with the training's mean and spread."""
    if path is None:
        return dict(zip(function.inputs, function.examples(function.num_points or _DRAWN), strict=True))
    sample = read_sample(Reference(path), Signature.from_json(trained.prediction).channels.reads[0])
    arrays = {"points": sample.points[:, : function.inputs["points"]], **sample.inputs}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def largest_error(found: Arrays, true: Arrays) -> float:
    """Return the largest error of any field, in units of its largest value; fields that are not finite have none."""
    errors = [np.abs(found[name] - values).max() / np.abs(values).max() for name, values in true.items()]
    return float(np.max(errors))


def fields_of_file(model: Path, cloud: Path, platform: str) -> subprocess.Popen:
    """Start a process that runs the file with jax alone; it leaves its fields beside `cloud`."""
    command = [sys.executable, EXAMPLE, model, cloud, cloud.with_name(f"{platform}.npz")]
    # Away from the repository, whose packages would be found in the current folder.
    return subprocess.Popen(
        command,
        cwd=cloud.parent,
        env={**os.environ, "JAX_PLATFORMS": platform},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _errors(trained: TrainedModel, model: Path, path: Path | None) -> Iterator[tuple[str, float, float]]:
    """Yield what is compared, its error, and the largest that is right."""
    function = ExportedFunction.of(trained)
    arrays = arguments_of(trained, function, path)
    names, platforms = list(function.outputs), ["cpu", *(["cuda"] if jax.default_backend() == "gpu" else [])]
    with tempfile.TemporaryDirectory() as folder:
        cloud = Path(folder) / "cloud.npz"
        np.savez(cloud, **arrays)
        running = {platform: fields_of_file(model.resolve(), cloud, platform) for platform in platforms}
        with jax.default_device(jax.devices("cpu")[0]):
            true = dict(zip(names, function.expected(list(arrays.values())), strict=True))
        for platform, process in running.items():
            _, problem = process.communicate()
            if process.returncode:
                reason = problem.strip().splitlines()[-1]
                raise UserError(f"{model} does not run on {platform} ({reason}); export the run again")
            with np.load(cloud.with_name(f"{platform}.npz")) as found:
                yield f"{model.name} with jax alone on {platform}", largest_error(found, true), TOLERANCE
    if platforms[-1] == "cpu":
        return
    in_full = dict(zip(names, ExportedFunction.of(trained).expected(list(arrays.values())), strict=True))
    yield f"the run on {platforms[-1]}, products in float32", largest_error(in_full, true), TOLERANCE
    points = arrays.pop("points")
    as_trained = flare_jax.Surrogate(trained).predict(points, arrays, pad=False)
    bound = TOLERANCE if trained.matmul_precision == "highest" else _TF32
    label = f"the run on {platforms[-1]}, products as in training ({trained.matmul_precision})"
    yield label, largest_error(as_trained, true), bound


def main(arguments: list[str] | None = None) -> int:
    """Print one line for each comparison and return 1 where one fails."""
    parser = Parser(prog="python -m benchmarks.exported", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run, or of a saved surrogate")
    parser.add_argument("--model", type=Path, required=True, help="file of experiments.export that ends in .jax")
    parser.add_argument("--input", type=Path, help="sample with the run's arrays; default: random points and inputs")
    options = parser.parse_args(arguments)
    if not options.model.is_file():
        raise UserError(f"--model={options.model} does not exist; write it by experiments.export")
    if not EXAMPLE.is_file():
        raise UserError(f"{EXAMPLE} is a part of the repository alone; run this program there")
    wrong = 0
    for label, error, bound in _errors(read_trained(options.workdir), options.model, options.input):
        wrong += not error <= bound
        print(f"{label}: largest error {error:.2e}, {'at most' if error <= bound else 'MORE THAN'} {bound:.0e}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(exit_status(main))
