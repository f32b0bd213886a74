"""The seeds of a run as one predictor, and what their spread says of its error, as the evaluation calibrated it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.training.ensemble import HALF_WIDTH, LEVEL
from flare_jax import Ensemble, Surrogate, load, load_ensemble
from flare_jax.convert.trained import newest_steps
from runtime.json_files import read_object

Fields = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Calibration:
    """The factor by which the standard deviation over seeds is multiplied, and the samples that it was chosen on."""

    factor: float = 1.0
    chosen_on: str = ""

    def describe(self, workdir: Path) -> str:
        """Return what the intervals are, as one line."""
        width = HALF_WIDTH * self.factor
        text = f"{100 * LEVEL:.0f} % intervals are mean ± {width:.3g} standard deviations over the seeds"
        if self.chosen_on:
            return f"{text}, calibrated on {self.chosen_on}"
        return f"{text}, not calibrated; python -m experiments.pdebench --mode=eval --workdir={workdir} calibrates them"

    def coverage(self, means: Fields, deviations: Fields, truths: Fields) -> dict[str, float]:
        """Return by field the share of the known truth that lies within the intervals."""
        shares = {}
        for name, truth in truths.items():
            known = np.isfinite(truth).all(axis=1)
            within = np.abs(means[name] - truth) <= HALF_WIDTH * self.factor * deviations[name]
            if known.any():
                shares[name] = float(within[known].mean())
        return shares


def read_calibration(workdir: Path) -> Calibration:
    """Return the calibration of the run's newest checkpoints, none where it was not evaluated."""
    try:
        spread = read_object(workdir / "eval.json")["spread"]
        return Calibration(float(spread["factor"]), str(spread["calibrated_on"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Calibration()


def load_seeds(folder: Path, step: int | None, seed: int | None, weights: str | None) -> Surrogate | Ensemble:
    """Return the model of the seed that is asked for, or of all seeds of the run, and say so of several."""
    if seed is not None or len(newest_steps(folder)) < 2:
        return load(folder, step=step, seed=seed, weights=weights)
    ensemble = load_ensemble(folder, step=step, weights=weights)
    print(f"mean and standard deviation over the seeds {', '.join(map(str, ensemble.members))}")
    if ensemble.left_out:
        print(f"warning: the training of seeds {', '.join(map(str, ensemble.left_out))} ended early; they are left out")
    return ensemble


def say_which_seed(folder: Path, seed: int | None) -> None:
    """Say which seed predicts a series, of which there is no mean: it is fed what it predicted."""
    seeds = newest_steps(folder)
    if seed is None and len(seeds) > 1:
        print(f"a series is predicted by one seed, {next(iter(seeds))}; --seed chooses another")
