"""FLARE on 40 samples with two global parameters beside predictors that need no network of its kind.

    python -m benchmarks.small_data --out=out/small_data [--config.train.epochs=50 ...]

Two sets of 40 training and 40 test samples on meshes of different sizes: the flow around ellipses, given the angle of
the stream and the thickness of the ellipse, and Poisson's equation on the unit square, given place and width of its
source.
The model is that of configs/custom.py, with the options of the command line. Beside it stand the training mean, the
nearest neighbour and gradient boosting, as in every report, and on points and parameters ridge regression, on their
cubic polynomials, and a pointwise network.
"""

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline.custom.example import ellipse as flow_around
from data_pipeline.custom.example import ring_mesh, solve
from data_pipeline.custom.writers import write_fields
from data_pipeline.dataset import PDEDataset
from data_pipeline.registry import find_record
from experiments.training.task import mean_of_defined
from experiments.training.tasks.baselines import case_error
from runtime.command import Parser

SAMPLES = 40
_MODES = np.arange(1, 40)
INPUTS = {"ellipses": "angle,thickness", "poisson": "centre,width"}
TARGETS = {"ellipses": "pressure,velocity", "poisson": "u"}
_PREDICTORS = {"mean_predictor": "training mean", "nearest": "nearest neighbour", "boosting": "gradient boosting"}


def write_ellipse(path: Path, rng: np.random.Generator) -> None:
    """Write a flow around an ellipse of random size, thickness and angle; the size is none of the inputs."""
    length, thickness, angle = rng.uniform(0.5, 1.0), rng.uniform(0.3, 1.0), np.deg2rad(rng.uniform(-20.0, 20.0))
    ring, triangles = ring_mesh(int(rng.integers(32, 65)), int(rng.integers(12, 21)))
    fields = solve(flow_around(length, length * thickness, angle), ring)
    values = {"angle": np.float32(angle), "thickness": np.float32(thickness)}
    write_fields(path, fields.pop("points"), (("triangle", triangles),), fields | values)


def write_poisson(path: Path, rng: np.random.Generator) -> None:
    """Write the solution for a Gaussian source at (centre, ½), 0 on the boundary, at 400 to 700 random points."""
    points, centre, width = (
        rng.random((int(rng.integers(400, 700)), 2)),
        rng.uniform(0.25, 0.75),
        rng.uniform(0.08, 0.25),
    )
    squares = _MODES[:, None] ** 2 + _MODES**2
    modes = np.outer(_sine_series(centre, width), _sine_series(0.5, width)) / (np.pi**2 * squares)
    x, y = (np.sin(np.pi * np.outer(places, _MODES)) for places in points.T)
    u = np.einsum("nk,kl,nl->n", x, modes, y)
    write_fields(path, points, (), {"u": u, "centre": np.float64(centre), "width": np.float64(width)})


def _sine_series(centre: float, width: float) -> Float[np.ndarray, " K"]:
    places = np.linspace(0, 1, 400)
    values = np.sin(np.pi * np.outer(_MODES, places)) * np.exp(-(((places - centre) / width) ** 2) / 2)
    return 2 * np.trapezoid(values, places, axis=1)


WRITERS = {"ellipses": write_ellipse, "poisson": write_poisson}


def write_set(name: str, folder: Path, samples: int = SAMPLES) -> None:
    """Write as many training as test samples of a set."""
    for number in range(2 * samples):
        split = "train" if number < samples else "test"
        WRITERS[name](folder / split / f"{name}_{number:03d}.npz", np.random.default_rng((0, number)))


def fitted_errors(dataset: PDEDataset, epochs: int = 150) -> dict[str, float]:
    """Return the test errors, in units of the spread, of ridge regression and of a small pointwise network."""
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    network = MLPRegressor(hidden_layer_sizes=(64, 64, 64), max_iter=epochs, batch_size=256, random_state=0)
    ridge = make_pipeline(StandardScaler(), PolynomialFeatures(3), Ridge())
    return {
        "ridge regression": fitted_error(dataset, ridge),
        "pointwise network": fitted_error(dataset, network),
    }


def fitted_error(dataset: PDEDataset, predictor: Any) -> float:
    """Return the test error, in units of the spread, of a predictor that is fitted to the points of all samples."""
    train, test = dataset.train, dataset.tests["test"]
    x, y = (np.concatenate([part[case][train.real(case)] for case in range(len(train))]) for part in (train.x, train.y))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore")  # that it has not converged after so many epochs
        predictor.fit(x, y if y.shape[1] > 1 else y[:, 0])
    errors = []
    for case in range(len(test)):
        real = test.real(case)
        prediction = predictor.predict(test.x[case][real]).reshape(-1, y.shape[1])
        errors.append(case_error(dataset, prediction, test.y[case][real]))
    return float(mean_of_defined(np.array(errors)))


def compare(name: str, out: Path, options: Sequence[str]) -> dict[str, float]:
    """Train the model on a set and return the test errors, in units of the spread, of everything by name."""
    folder = out / name
    write_set(name, folder)
    arrays = {"inputs": INPUTS[name], "targets": TARGETS[name]}
    chosen = [f"--config.data.{option}={value}" for option, value in {"path": folder, **arrays}.items()]
    workdir = out / f"{name}_run"
    program = [sys.executable, "-m", "experiments.pdebench", "--config=configs/custom.py", f"--workdir={workdir}"]
    subprocess.run([*program, *chosen, *options], check=True)
    summary = json.loads((workdir / "eval.json").read_text())
    dataset = find_record("custom").load(out, 0, 0, path=str(folder), **arrays)
    others = {words: summary[f"test/rel_spread_{key}"] for key, words in _PREDICTORS.items()}
    return {"model": summary["test/rel_spread"], **others, **fitted_errors(dataset)}


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison on both sets and print a table."""
    parser = Parser(prog="python -m benchmarks.small_data", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("out/small_data"), help="folder (default: %(default)s)")
    parser.add_argument("--only", choices=tuple(WRITERS), help="one of the sets")
    options, of_run = parser.parse_known_args(arguments)
    for name in [options.only] if options.only else WRITERS:
        errors = compare(name, options.out, of_run)
        print(f"{name}: " + ", ".join(f"{words} {error:.4f}" for words, error in errors.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
