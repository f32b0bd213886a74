"""Two predictors that are fitted in seconds, beside which models are reported.

Both predict point by point from the coordinates, the inputs and the time there, as a model gets them: the value at the
nearest training point, and gradient boosting of decision trees. Of series, whose first state is given, they predict
from this state there how it has changed at a time. A network that does not beat them is not worth its training.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from data_pipeline.dataset import PDEDataset
from data_pipeline.normalizer import Normalizer
from data_pipeline.split import Split
from experiments.training.task import mean_of_defined
from experiments.training.tasks.baselines import case_error
from experiments.training.tasks.errors import headline_of

Predictor = Callable[[Float[np.ndarray, "N C_in"]], Float[np.ndarray, "N C_out"]]

SIMPLE = {"nearest": "nearest neighbour in points and inputs", "boosting": "gradient boosting on points and inputs"}
# Random points to fit on, and samples and points of each to measure the errors on.
_FITTED_POINTS, _MEASURED_SAMPLES, _MEASURED_POINTS = 50_000, 200, 4_000
# Points that are read in all, for samples have to be read whole.
_READ_POINTS = 20_000_000
_ITERATIONS = 200
# Kinds of data whose first states are given.
_SERIES = ("autoregressive", "mesh_series")


def simple_errors(dataset: PDEDataset) -> dict[str, float]:
    """Return the mean headline error of both predictors, `SPLIT/METRIC_PREDICTOR`, for each test.

    There are none for parts that grow, which are compared with those most like them.

    They are fitted on random points of the training samples where these have more than 50 000; of tests with more than
    200 samples, or samples of more than 4000 points, as many random ones are measured.
    """
    if dataset.kind == "layer_series":
        return {}
    each = -(-_FITTED_POINTS // len(dataset.train))
    x, y, base = map(np.concatenate, zip(*_some_points(dataset, dataset.train, _FITTED_POINTS, each), strict=True))
    normalizer, errors, y = dataset.y_normalizer, {}, y - base
    if dataset.kind in _SERIES:
        normalizer = Normalizer(y.mean(0), np.where(y.std(0) > 0, y.std(0), 1.0))
    predictors = {"nearest": _nearest(x, y), "boosting": _boosting(x, normalizer.encode(y), normalizer.decode)}
    for name, split in dataset.tests.items():
        found = {predictor: [] for predictor in predictors}
        for x, y, base in _some_points(dataset, split, _MEASURED_SAMPLES, _MEASURED_POINTS):
            for predictor, predict in predictors.items():
                found[predictor].append(case_error(dataset, base + predict(x), y))
        for predictor, values in found.items():
            errors[f"{name}/{headline_of(dataset)}_{predictor}"] = float(mean_of_defined(np.array(values)))
    return errors


def _some_points(
    dataset: PDEDataset, split: Split, samples: int, points: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield features [n, C_in], targets [n, C_out] and what these begin with, at random points of random samples.

    Of fields in time these are at random times.
    """
    rng = np.random.default_rng(0)
    in_series = dataset.kind in _SERIES
    readable = max(4, _READ_POINTS // (np.prod(split.y.shape[1:3]) if in_series else split.x.shape[1]))
    for case in sorted(rng.permutation(len(split))[: min(samples, readable)]):
        if in_series:
            yield _some_of_series(dataset, split, case, points, rng)
            continue
        real = np.flatnonzero(split.real(case))
        chosen = np.sort(rng.permutation(real)[:points]) if len(real) > points else real
        given = [split.x[case][chosen]]
        if split.fx is not None:
            given.append(split.fx[case][chosen])
        if split.time is not None:
            given.append(np.full((len(chosen), 1), split.time[case], np.float32))
        target = split.y[case][chosen]
        if dataset.kind == "time_conditioned":
            frames = rng.integers(target.shape[1], size=len(chosen))
            given.append(dataset.times[frames, None])
            target = target[np.arange(len(chosen)), frames]
        yield np.concatenate(given, axis=-1), np.asarray(target, np.float64), np.zeros(target.shape)


def _some_of_series(
    dataset: PDEDataset, split: Split, case: int, points: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features with the known state and the time, later states, and the last known one, at random points."""
    if dataset.kind == "mesh_series":
        nodes = np.flatnonzero(split.free[case])
        known, frames = split.y[case][:, 0], split.y[case][:, 1:]
    else:
        nodes = np.flatnonzero(split.real(case))
        known, frames = split.fx[case], split.y[case]
    times = dataset.times[-frames.shape[1] :]
    count = len(nodes) * len(times)
    node, frame = np.divmod(rng.choice(count, min(points, count), replace=False), len(times))
    node = nodes[node]
    given = [split.x[case][node], known[node], times[frame, None]]
    target, base = (np.asarray(part, np.float64) for part in (frames[node, frame], known[node, -dataset.c_out :]))
    return np.concatenate(given, axis=-1, dtype=np.float64), target, base


def _nearest(x: np.ndarray, y: np.ndarray) -> Predictor:
    # Inputs are in units of their spread already; coordinates of public sets may not be.
    mean, spread = x.mean(0), x.std(0)
    scale = np.where(spread > 0, spread, 1.0)
    tree = KDTree((x - mean) / scale)
    return lambda given: y[tree.query((given - mean) / scale)[1]]


def _boosting(x: np.ndarray, y: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> Predictor:
    # Imported here: it takes a second, and only reports need it.
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    options = {"max_iter": _ITERATIONS, "early_stopping": False, "random_state": 0}

    # One thread: where others compute too, several wait for each other most of the time.
    def predict(given: Float[np.ndarray, "N C_in"]) -> Float[np.ndarray, "N C_out"]:
        with threadpool_limits(1):
            return decode(np.column_stack([one.predict(given) for one in trees]))

    with threadpool_limits(1):
        trees = [HistGradientBoostingRegressor(**options).fit(x, channel) for channel in y.T]
    return predict
