"""Seeds of a run as one surrogate: which of them, what they give together, and refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest

import flare_jax
from flare_jax import ensemble as program
from flare_jax.surrogate import Surrogate
from tests.flare_jax.test_surrogate import trained  # noqa: F401


@pytest.fixture
def run(trained, tmp_path, monkeypatch):  # noqa: F811
    """A folder with four seeds, of which one ended early and one has not begun; weights are scaled by the seed."""
    content = {"config": {"model": {"type": "flare"}, "train": {"seeds": [1, 2, 3, 4]}}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    for seed, step in ((1, 40), (2, 5), (3, 40)):
        place = tmp_path / f"seed_{seed}" / "checkpoints" / str(step)
        (place / "state").mkdir(parents=True)
        (place / "_CHECKPOINT_METADATA").write_text("{}")

    def read(folder, step, seed, weights):
        return replace(trained, params={name: seed * value for name, value in trained.params.items()})

    monkeypatch.setattr(program, "read_trained", read)
    return tmp_path


def test_mean_and_deviation_are_those_of_the_seeds_that_reached_the_end(run, trained):  # noqa: F811
    together = flare_jax.load_ensemble(run)
    assert tuple(together.members) == (1, 3)
    assert together.left_out == (2, 4)
    points = np.random.default_rng(0).random((9, 3)) * [1, 0, 1]
    inputs = {name: np.ones((9, width)) for name, width in together.members[1].inputs.items()}
    means, deviations = together.predict(points, inputs)
    both = [Surrogate(program.read_trained(run, None, seed, None)).predict(points, inputs) for seed in together.members]
    for name, mean in means.items():
        found = np.stack([fields[name] for fields in both])
        np.testing.assert_allclose(mean, found.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(deviations[name], found.std(axis=0, ddof=1), rtol=1e-6)
        assert (deviations[name] > 0).any()
    assert together.members[3]._compiled is together.members[1]._compiled


def test_one_seed_has_no_spread(run):
    with pytest.raises(ValueError, match=r"has 0 trained seeds of \(\), and a spread needs two"):
        flare_jax.load_ensemble(run / "seed_1")
    content = json.loads((run / "config.json").read_text())
    content["config"]["train"]["seeds"] = [1, 2]
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"has 1 trained seed of \(1, 2\), and a spread needs two"):
        flare_jax.load_ensemble(run)
