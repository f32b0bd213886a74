"""The sets of the comparison on little data: what they hold, and predictors that are fitted to them."""

from dataclasses import replace

import numpy as np

from benchmarks import small_data
from data_pipeline.registry import find_record
from experiments.training.tasks.baselines import baseline_error


def test_the_sets_and_the_fitted_predictors(tmp_path):
    for name in small_data.WRITERS:
        small_data.write_set(name, tmp_path / name, 4)
        arrays = {"inputs": small_data.INPUTS[name], "targets": small_data.TARGETS[name]}
        dataset = find_record("custom").load(tmp_path, 0, 0, path=str(tmp_path / name), **arrays)
        assert (len(dataset.train), len(dataset.tests["test"]), dataset.c_in) == (4, 4, 4)
    errors = small_data.fitted_errors(dataset, epochs=10)
    assert 0 < errors["pointwise network"] < baseline_error(dataset, dataset.tests["test"])
    # The training fields are those of few parameters, which polynomials fit in part.
    itself = replace(dataset, tests={"test": dataset.train})
    assert (
        0 < small_data.fitted_errors(itself, epochs=1)["ridge regression"] < 0.9 * baseline_error(itself, dataset.train)
    )


def test_poisson_solutions_are_solutions(tmp_path):
    """The five-point formula on a fine cross gives the source back."""
    rng = np.random.default_rng(0)
    step, middle = 0.01, np.array([0.45, 0.55])
    cross = middle + step * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])

    class Fixed:
        def integers(self, low, high):
            return 5

        def random(self, shape):
            return cross

        def uniform(self, low, high):
            return rng.uniform(low, high)

    small_data.write_poisson(tmp_path / "a.npz", Fixed())
    made = np.load(tmp_path / "a.npz")
    laplacian = (made["u"][1:].sum() - 4 * made["u"][0]) / step**2
    distance = np.sum((middle - [made["centre"], 0.5]) ** 2)
    np.testing.assert_allclose(-laplacian, np.exp(-distance / made["width"] ** 2 / 2), rtol=1e-2)
