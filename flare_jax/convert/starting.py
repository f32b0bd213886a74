"""Weights to begin a training with: of a run, of a converted or saved model, or of a safetensors file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flare_jax.convert.folder import is_converted
from flare_jax.convert.runs import read_run
from flare_jax.convert.safetensors import read_safetensors
from flare_jax.convert.trained import first_seed_folder


@dataclass(frozen=True)
class StartingWeights:
    """Parameters by name and what they are, in words; `model` are type and options of their model, where known."""

    params: Mapping[str, np.ndarray]
    label: str
    model: Mapping[str, Any] = field(default_factory=dict)


def read_starting_weights(source: Path | str, weights: str | None = None) -> StartingWeights:
    """Return the weights in the folder of a run (its first seed), of a converted model, or in a safetensors file.

    `weights` is 'ema' or 'raw', by default those that a run reports, and the raw ones of other sources. Raises
    ValueError where there are none, or not these.
    """
    source = Path(source)
    if source.is_file():
        return _of_file(source, weights)
    if not source.is_dir():
        raise ValueError(f"train.init_from={source} does not exist; name the folder of a run, or a safetensors file")
    folder = source if is_converted(source) else first_seed_folder(source)
    run = read_run(folder)
    chosen = _chosen(run.weights, weights, source, run.reported)
    return StartingWeights(run.weights[chosen], f"{source} ({chosen} weights)", {"type": run.model_type, **run.options})


def _of_file(path: Path, weights: str | None) -> StartingWeights:
    if path.suffix != ".safetensors":
        raise ValueError(
            f"train.init_from={path} is no safetensors file; name one, the folder of a run, or that of a converted "
            "checkpoint (python -m flare_jax.convert)"
        )
    arrays = read_safetensors(path)
    kinds = {kind for kind in ("raw", "ema") if any(name.startswith(f"{kind}/") for name in arrays)}
    if not kinds:  # the names alone
        if weights is not None:
            raise ValueError(f"train.init_weights={weights}, but {path} holds one set of weights; leave it out")
        return StartingWeights(arrays, str(path))
    named = {
        kind: {name.split("/", 1)[1]: value for name, value in arrays.items() if name.startswith(f"{kind}/")}
        for kind in kinds
    }
    chosen = _chosen(named, weights, path, "raw")
    return StartingWeights(named[chosen], f"{path} ({chosen} weights)")


def _chosen(held: Mapping[str, Any], weights: str | None, source: Path, reported: str) -> str:
    chosen = weights or (reported if reported in held else "raw")
    if chosen not in held:
        raise ValueError(
            f"train.init_weights={chosen}, but {source} holds {', '.join(sorted(held))} weights; choose those"
        )
    return chosen
