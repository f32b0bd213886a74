"""Two predictors that are fitted in seconds, beside which models of steady fields, or of a given time, are reported.

Both predict point by point from the coordinates, the inputs and the time there, as a model gets them: the value at the
nearest training point, and gradient boosting of decision trees. A network that does not beat them is not worth its
training.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from data_pipeline.dataset import PDEDataset
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


def simple_errors(dataset: PDEDataset) -> dict[str, float]:
    """Return the mean headline error of both predictors, `SPLIT/METRIC_PREDICTOR`, for each test.

    There are none for series that begin with a given state: these are compared with keeping it.

    They are fitted on random points of the training samples where these have more than 50 000; of tests with more than
    200 samples, or samples of more than 4000 points, as many random ones are measured.
    """
    if dataset.kind not in ("steady", "time_conditioned"):
        return {}
    each = -(-_FITTED_POINTS // len(dataset.train))
    x, y = map(np.concatenate, zip(*_some_points(dataset, dataset.train, _FITTED_POINTS, each), strict=True))
    normalizer, errors = dataset.y_normalizer, {}
    predictors = {"nearest": _nearest(x, y), "boosting": _boosting(x, normalizer.encode(y), normalizer.decode)}
    for name, split in dataset.tests.items():
        found = {predictor: [] for predictor in predictors}
        for x, y in _some_points(dataset, split, _MEASURED_SAMPLES, _MEASURED_POINTS):
            for predictor, predict in predictors.items():
                found[predictor].append(case_error(dataset, predict(x), y))
        for predictor, values in found.items():
            errors[f"{name}/{headline_of(dataset)}_{predictor}"] = float(mean_of_defined(np.array(values)))
    return errors


def _some_points(
    dataset: PDEDataset, split: Split, samples: int, points: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the features [n, C_in] and targets [n, C_out] at random points, and times, of random samples."""
    rng = np.random.default_rng(0)
    readable = max(4, _READ_POINTS // split.x.shape[1])
    for case in sorted(rng.permutation(len(split))[: min(samples, readable)]):
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
        yield np.concatenate(given, axis=-1), np.asarray(target, np.float64)


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
