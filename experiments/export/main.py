"""The program: read the run, write the file beside its place, compare it with the model, and only then leave it."""

from pathlib import Path

import numpy as np
from absl import flags

from experiments.errors import UserError
from experiments.export.formats import WRITERS, Run
from experiments.export.function import ExportedFunction
from flare_jax.convert.trained import read_trained
from runtime.files import replacing
from runtime.words import brief

FLAGS = flags.FLAGS
# Of the largest error over the largest value of a field about its mean.
TOLERANCE = 1e-5
_SIZES = (7, 97, 500)


def main() -> None:
    """Export what the flags ask for."""
    folder, out = _workdir(), _out()
    if FLAGS.points < 0:
        raise UserError(f"--points={FLAGS.points} must be a number of points, or 0 for any number")
    trained = read_trained(folder, FLAGS.step, FLAGS.seed, FLAGS.weights)
    function = ExportedFunction.of(trained)
    bound = function.num_points
    if bound is not None and FLAGS.points not in (0, bound):
        raise UserError(f"--points={FLAGS.points}, but the model is bound to a grid of {bound} points; leave it out")
    points = bound or FLAGS.points
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        run = _written(function, temporary, points, trained.model.model_type)
        error = largest_error(function, run, (points,) if points else _SIZES)
        if not error <= TOLERANCE:
            raise UserError(
                f"the exported file differs from the model by {error:.1e}, more than {TOLERANCE:.0e}, so it is not "
                f"left; choose another format, one of {', '.join(WRITERS)}"
            )
    size = out.stat().st_size / 2**20
    print(f"{out} ({size:.1f} MiB) for {points or 'any number of'} points; largest error against the model {error:.1e}")
    arguments = ", ".join(f"{name} [N, {width}]" for name, width in function.inputs.items())
    results = ", ".join(f"{name} [N, {width}]" for name, width in function.outputs.items())
    print(f"takes {arguments}; gives {results}; all float32, in the units of the data")


def largest_error(function: ExportedFunction, run: Run, sizes: tuple[int, ...]) -> float:
    """Return the largest error of `run` over clouds of these sizes, of any field in units of its largest value."""
    errors = [0.0]
    for size in sizes:
        arrays = function.examples(size)
        for found, true in zip(run(arrays), function.expected(arrays), strict=True):
            errors.append(float(np.abs(found - true).max() / np.abs(true).max()))
    return max(errors)


def _written(function: ExportedFunction, path: Path, points: int, model_type: str) -> Run:
    """Write the file; raises UserError, with the way out, where the model has no form for any number of points."""
    try:
        return WRITERS[path.suffix](function, path, points)
    except UserError:
        raise
    except Exception as error:  # the converters raise many types for what they do not know
        reason = brief(error)
        remedy = "give --points=N for clouds of N points" if not points else f"choose among {', '.join(WRITERS)}"
        raise UserError(f"model type {model_type} cannot be written as {path.suffix} ({reason}); {remedy}") from error


def _workdir() -> Path:
    if FLAGS.workdir is None:
        raise UserError("--workdir is missing; for example --workdir=out/ellipses")
    return Path(FLAGS.workdir)


def _out() -> Path:
    if FLAGS.out is None:
        raise UserError("--out is missing; for example --out=model.jax or --out=model.onnx")
    path = Path(FLAGS.out)
    if path.suffix not in WRITERS:
        raise UserError(f"--out={path} must end in one of {', '.join(WRITERS)}; rename it")
    return path
