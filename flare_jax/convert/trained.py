"""A trained model with what it takes and gives, from the folder of a run, of a converted model or of a surrogate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flare_jax.convert.checkpoints import checkpoint_steps
from flare_jax.convert.descriptions import ModelDescription, abstract_parameters
from flare_jax.convert.folder import DESCRIPTION_FILE, ConvertedModel, is_converted, read_converted, write_converted
from flare_jax.convert.runs import read_run
from flare_jax.field_codec import FieldCodec
from flare_jax.models.language import LANGUAGE_MODELS
from runtime.json_files import read_object

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class TrainedModel:
    """A model of steady fields: how to build it, its parameters by name, and what it takes and gives.

    `prediction` is what `flare_jax.field_codec.FieldCodec` reads; it may hold more. `dtype` and `matmul_precision` are
    those of the computation in training, `points_per_piece` is that of its evaluation (0: all points at once).
    """

    model: ModelDescription
    params: Mapping[str, np.ndarray]
    prediction: Mapping[str, Any]
    dtype: str = "float32"
    matmul_precision: str = "default"
    points_per_piece: int = 0


def read_prediction(folder: Path | str) -> dict[str, Any]:
    """Return what the model in `folder` takes and gives; raises ValueError where it is none of steady fields."""
    folder = Path(folder)
    saved = _saved(folder)
    if saved is not None:
        return saved["prediction"]
    known = not is_converted(folder) or (folder / CONFIG_FILE).is_file()
    content = _read_config(folder) if known else {"config": {"model": {}}}
    if "backend" in content["config"]["model"]:
        raise ValueError(f"{folder} holds a run on token sequences; name a run on fields of a mesh")
    if content["config"]["model"].get("type") in LANGUAGE_MODELS:
        raise ValueError(
            f"{folder} holds a run of a language model, which continues text: python -m experiments.generate "
            f"--workdir={folder}; name a run on fields of a mesh"
        )
    if not isinstance(content.get("prediction"), dict):
        raise ValueError(
            f"{folder} does not say what its model takes; predictions work for runs on steady fields: evaluate the run "
            f"once to add it, python -m experiments.pdebench --mode=eval --workdir={folder}"
        )
    return content["prediction"]


def read_trained(
    folder: Path | str, step: int | None = None, seed: int | None = None, weights: str | None = None
) -> TrainedModel:
    """Return the trained model in `folder`; by default the newest checkpoint of the first seed, as the run reports it.

    Raises ValueError if there is none, if it is damaged, or if it is no model of steady fields.
    """
    folder = Path(folder)
    prediction = read_prediction(folder)
    saved = _saved(folder)
    if saved is not None:
        _refuse_choice(folder, step=step, seed=seed)
        content: dict[str, Any] = {}
        computed = saved
    else:
        content = _read_config(folder)
        # Sequences and layers have a task without pieces, converted models none.
        pieces = (content["config"].get("task") or {}).get("points_per_piece", 0)
        computed = {**content["config"]["train"], "points_per_piece": pieces}
        folder = _seed_folder(folder, content["config"]["train"]["seeds"], seed)
    run = read_run(folder, step)
    params = run.weights[run.choose(weights, folder)]
    # What the data set decides is in the options that the run recorded; a converted model has a value for every one.
    recorded = content.get("model_options") or run.options
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()}
    codec = _codec(prediction, folder)
    trained = TrainedModel(
        ModelDescription(run.model_type, codec.c_in, codec.c_out, options),
        params,
        prediction,
        computed.get("dtype", "float32"),
        computed.get("matmul_precision", "default"),
        computed.get("points_per_piece", 0),
    )
    _check_fits(trained, folder)
    return trained


def write_trained(folder: Path | str, trained: TrainedModel) -> None:
    """Write a new folder that `read_trained` reads, whole or not at all; raises ValueError if something is there."""
    kept = {
        "prediction": dict(trained.prediction),
        "dtype": trained.dtype,
        "matmul_precision": trained.matmul_precision,
        "points_per_piece": trained.points_per_piece,
    }
    write_converted(folder, ConvertedModel(trained.model, {"raw": trained.params}, surrogate=kept))


def _saved(folder: Path) -> Mapping[str, Any] | None:
    """Return what a saved surrogate says beside its model, None for every other folder."""
    if not is_converted(folder):
        return None
    try:
        return read_object(folder / DESCRIPTION_FILE).get("surrogate")
    except (OSError, ValueError):
        return read_converted(folder).surrogate  # which says what is wrong with the folder


def _read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of a run; of the folder of one seed it is that of the run around it."""
    for place in (folder, folder.parent) if folder.name.startswith("seed_") else (folder,):
        try:
            content = read_object(place / CONFIG_FILE)
            config = content["config"]
            if not all(isinstance(config[name], dict) for name in ("model", "train")):
                raise TypeError("its config has no sections model and train")
            if not isinstance(config["train"]["seeds"], list):
                raise TypeError(f"its train.seeds are {config['train']['seeds']!r}")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{place / CONFIG_FILE} is not the configuration of a run ({error}); check the folder"
            ) from error
        return content
    raise ValueError(f"{folder} holds no {CONFIG_FILE}, so there is no run in it, and no saved surrogate; check it")


def first_seed_folder(folder: Path) -> Path:
    """Return where the checkpoints of a run are: of several seeds, those of the first; raises ValueError for no run."""
    return _seed_folder(folder, _read_config(folder)["config"]["train"]["seeds"], None)


def newest_steps(folder: Path | str) -> dict[int, int]:
    """Return by seed of the run in `folder` the step of its newest checkpoint, -1 without one.

    A saved model has no seeds, and neither has the folder of one. Raises ValueError where there is no run.
    """
    folder = Path(folder)
    if is_converted(folder):
        return {}
    content = _read_config(folder)
    seeds = content["config"]["train"]["seeds"] if (folder / CONFIG_FILE).is_file() else []
    folders = {seed: _seed_folder(folder, seeds, seed) / "checkpoints" for seed in seeds}
    return {seed: max(checkpoint_steps(place), default=-1) for seed, place in folders.items()}


def _seed_folder(folder: Path, seeds: list[int], seed: int | None) -> Path:
    if seed is not None and seed not in seeds:
        raise ValueError(f"--seed={seed} is not among the seeds {tuple(seeds)} of the run; choose one of them")
    if len(seeds) == 1 or not (folder / CONFIG_FILE).is_file():
        return folder
    return folder / f"seed_{seeds[0] if seed is None else seed}"


def _refuse_choice(folder: Path, **choices: int | None) -> None:
    for name, value in choices.items():
        if value is not None:
            raise ValueError(f"--{name}={value} chooses within a run, but {folder} holds one saved model; drop it")


def _codec(prediction: Mapping[str, Any], folder: Path) -> FieldCodec:
    try:
        return FieldCodec.from_json(prediction)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"what the model in {folder} takes cannot be read ({error!r}); remove the entry 'prediction' from its "
            f"{CONFIG_FILE} and evaluate the run"
        ) from error


def _check_fits(trained: TrainedModel, folder: Path) -> None:
    expected = {name: tuple(value.shape) for name, value in abstract_parameters(trained.model).items()}
    if expected != {name: np.shape(value) for name, value in trained.params.items()}:
        raise ValueError(f"the weights in {folder} do not fit its configuration; the folder was changed, train again")
