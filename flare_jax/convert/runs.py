"""Parameters of a finished or converted run, read from its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flare_jax.convert.checkpoints import checkpoint_steps, read_record, read_weights
from flare_jax.convert.folder import is_converted, read_converted


@dataclass(frozen=True)
class RunWeights:
    """Parameters of a run at one step: `weights` maps 'raw', and 'ema' if there is an average, to them.

    `options` are those of the model, and `reported` is the set of weights whose errors the run reports, as the run's
    configuration gives them.
    """

    model_type: str
    options: Mapping[str, Any]
    weights: Mapping[str, Mapping[str, np.ndarray]]
    reported: str = "raw"

    def choose(self, kind: str | None, folder: Path) -> str:
        """Return the set of weights to use: `kind`, or that of the report; raises ValueError if `folder` has it not."""
        chosen = kind or (self.reported if self.reported in self.weights else "raw")
        if chosen not in self.weights:
            raise ValueError(f"--weights={chosen}, but {folder} holds {', '.join(self.weights)} weights; choose those")
        return chosen


def read_run(folder: Path | str, step: int | None = None) -> RunWeights:
    """Return the weights of the newest checkpoint in a run's folder, or of the one of `step`.

    Raises ValueError if there is none, or if it is damaged. Of a run of several seeds, name the folder of one seed.
    """
    folder = Path(folder)
    if is_converted(folder):
        if step is not None:
            raise ValueError(f"--step={step} chooses among checkpoints, but {folder} holds one model; drop it")
        converted = read_converted(folder)
        return RunWeights(converted.model.model_type, converted.model.options, converted.weights)
    directory = folder / "checkpoints"
    steps = checkpoint_steps(directory)
    if not steps:
        seeds = sorted(path.name for path in folder.glob("seed_*"))
        hint = f"name one of its folders {', '.join(seeds)}" if seeds else "name the workdir of a run"
        raise ValueError(f"{folder} holds no checkpoints; {hint}")
    if step is not None and step not in steps:
        raise ValueError(f"--step={step} is not among the checkpoints {steps} in {directory}; choose one of them")
    return _read_checkpoint(directory / str(steps[-1] if step is None else step))


def _read_checkpoint(checkpoint: Path) -> RunWeights:
    try:
        saved = read_weights(checkpoint)
        config = read_record(checkpoint)["config"]
    except ValueError as error:
        raise ValueError(f"{error}; choose another with --step") from error
    try:
        options = dict(config["model"])
        model_type, reported = options.pop("type"), config["eval"]["weights"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint {checkpoint} does not say what model it holds ({error}); choose another with --step"
        ) from error
    weights = {"raw": saved["params"]} | ({"ema": saved["ema"]} if saved["ema"] else {})
    return RunWeights(model_type, options, weights, reported)
