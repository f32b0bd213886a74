"""Parameters of a finished or converted run, read from its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flare_jax import params as model_params
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
    steps = sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())
    if not steps:
        seeds = sorted(path.name for path in folder.glob("seed_*"))
        hint = f"name one of its folders {', '.join(seeds)}" if seeds else "name the workdir of a run"
        raise ValueError(f"{folder} holds no checkpoints; {hint}")
    if step is not None and step not in steps:
        raise ValueError(f"--step={step} is not among the checkpoints {steps} in {directory}; choose one of them")
    return _read_checkpoint(directory.absolute() / str(steps[-1] if step is None else step))


def _read_checkpoint(checkpoint: Path) -> RunWeights:
    try:
        record = json.loads((checkpoint / "record" / "metadata").read_text())
        options = dict(record["config"]["model"])
        model_type = options.pop("type")
        reported = record["config"]["eval"]["weights"]
        saved = _restore(checkpoint / "state")
    except Exception as error:  # Orbax and TensorStore raise many types for damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"checkpoint {checkpoint} cannot be read ({reason}); choose another with --step") from error
    if model_params.digest(saved) != record.get("weights_digest", model_params.digest(saved)):
        raise ValueError(f"checkpoint {checkpoint} does not match its own hash; choose another with --step")
    weights = {"raw": saved["params"]} | ({"ema": saved["ema"]} if saved["ema"] else {})
    return RunWeights(model_type, options, weights, reported)


def _restore(state: Path) -> dict[str, Any]:
    """Return parameters and average as NumPy arrays, whatever the devices they were saved from."""
    checkpointer = ocp.PyTreeCheckpointer()
    stored = checkpointer.metadata(state).item_metadata.tree
    wanted = {name: stored[name] or {} for name in ("params", "ema")}
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    restored = checkpointer.restore(
        state, args=ocp.args.PyTreeRestore(item=wanted, restore_args=arguments, partial_restore=True)
    )
    return {name: dict(restored[name] or {}) for name in ("params", "ema")}
