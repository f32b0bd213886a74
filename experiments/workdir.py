"""A run's folder: its config.json, which decides between a new run, a resumed one and a refusal."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments.cli import flatten
from experiments.errors import UserError
from flare_jax.convert.checkpoints import checkpoint_steps
from flare_jax.convert.folder import is_converted
from flare_jax.models.registry import MODELS
from runtime.files import remove_leftovers
from runtime.json_files import decode_object, encode, read_object, write_json
from runtime.locks import locked

CONFIG_FILE = "config.json"
# Options that may differ when a run is resumed: they do not change what is computed, only where or what is drawn.
_FREE = (
    "mesh.",
    "figures",
    "task.diagnostics",
    "train.parallel_seeds",
    "eval.simple_predictors",
    "data.dir",
    "data.source",
    "data.cache",
    "name",
)
# Options that were added later, with the values that say what runs without them did.
_ADDED = {
    "train": {
        "min_steps": 0,
        "parallel_seeds": 1,
        "init_from": "",
        "init_weights": "",
        "init_strict": False,
        "init_normalizers": "refit",
        "freeze": "",
    },
}
# The same of models of points, but for the types that had the option at first.
_ADDED_TO_MODELS = {"remat": (False, ("transolver", "transolver++", "lamo", "mesh_graph_net"))}
# Options that have changed their section: (from, to, name).
_MOVED = (("task", "data", "points_per_step"),)
_ADDED_TO_OWN_DATA = {
    "split": "",
    "n_val": 0,
    "time": "",
    "prescribed": "",
    "integrals": "",
    "reference": "",
    "surface": "",
}
_SECTIONS = ("data", "model", "train", "optimizer", "schedule", "eval", "checkpoint", "mesh")
_MINIMUM_FREE_BYTES = 64 * 2**20


@contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Make `workdir` and keep other processes from training there, however this one ends.

    Raises UserError if the folder cannot be written, the disk is full, or another process holds it.
    """
    _check_writable(workdir)
    busy = f"another process is training in --workdir={workdir}; wait for its end or use another --workdir"
    with locked(workdir, busy):
        remove_leftovers(workdir)
        yield


def prepare(workdir: Path, config: ConfigDict, given: Mapping[str, object]) -> None:
    """Write config.json, or check that `workdir` holds a run of the same configuration.

    What a start that trained nothing left there is replaced. Raises UserError where the configuration differs.
    """
    if is_converted(workdir):
        raise UserError(f"{workdir} holds a converted model, which is evaluated only; use another --workdir")
    known = (workdir / CONFIG_FILE).exists()
    stored = read_config_file(workdir)["config"] if known else {}
    if is_trained(workdir):
        if not known:
            raise UserError(f"{workdir} holds checkpoints but no {CONFIG_FILE}; use another --workdir")
        differing = _differences(stored, _plain(config))
        if differing:
            raise UserError(
                f"{workdir} holds a run with another config ({'; '.join(differing)}); use another --workdir"
            )
        return
    for checkpoints in _checkpoint_folders(workdir):
        shutil.rmtree(checkpoints)
    write_config_file(workdir, config, {"overrides": {name: str(value) for name, value in given.items()}})


def is_trained(workdir: Path) -> bool:
    """Tell whether a step has been trained in `workdir`: there is more than the checkpoint before the first step."""
    return any(step > 0 for folder in _checkpoint_folders(workdir) for step in checkpoint_steps(folder))


def has_begun(workdir: Path, seeds: Sequence[int]) -> bool:
    """Tell whether every seed of the run in `workdir` has a checkpoint to go on from."""
    folders = [workdir / f"seed_{seed}" for seed in seeds] if len(seeds) > 1 else [workdir]
    return all(checkpoint_steps(folder / "checkpoints") for folder in folders)


def _checkpoint_folders(workdir: Path) -> list[Path]:
    return [path for name in ("checkpoints", "seed_*/checkpoints") for path in workdir.glob(name) if path.is_dir()]


def write_config_file(workdir: Path, config: ConfigDict, more: Mapping[str, Any]) -> None:
    """Write config.json with the configuration and further entries beside it."""
    write_json(workdir / CONFIG_FILE, {"config": _plain(config), **more})


def write_seed_config(workdir: Path, folder: Path, seed: int) -> None:
    """Make the folder of one of several seeds like that of a run of this seed alone."""
    content = read_config_file(workdir)
    content["config"]["train"] |= {"seeds": [seed], "parallel_seeds": 1}
    folder.mkdir(exist_ok=True)
    write_json(folder / CONFIG_FILE, content)


def read_config_file(workdir: Path) -> dict[str, Any]:
    """Return the content of config.json; raises UserError where there is none or it is broken."""
    path = workdir / CONFIG_FILE
    try:
        content = read_object(path)
        _check_sections(content.get("config"))
        for name in ("data", "model_options"):
            if not isinstance(content.get(name), dict | None):
                raise ValueError(f"its {name} is no object")
    except FileNotFoundError as error:
        raise UserError(f"{workdir} holds no {CONFIG_FILE}, so there is no run in it; check --workdir") from error
    except ValueError as error:
        raise UserError(f"{path} is not the configuration of a run ({error}); check --workdir") from error
    for old, new, name in _MOVED:
        if name in content["config"].get(old, {}):
            content["config"][new][name] = content["config"][old].pop(name)
    for section, options in _ADDED.items():
        content["config"][section] = {**options, **content["config"][section]}
    if content["config"]["data"].get("name") == "custom":
        content["config"]["data"] = {**_ADDED_TO_OWN_DATA, **content["config"]["data"]}
        content["config"]["task"] = {"noise": 0.0, **content["config"].get("task", {})}
    content["config"]["train"]["seeds"] = tuple(content["config"]["train"]["seeds"])
    return content


def _check_sections(config: Any) -> None:
    if not isinstance(config, dict):
        raise ValueError("it has no object 'config'")
    missing = [name for name in _SECTIONS if not isinstance(config.get(name), dict)]
    if missing:
        raise ValueError(f"its config has no section {missing[0]!r}")
    seeds = config["train"].get("seeds")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ValueError(f"its train.seeds are {seeds!r}, not a list of integers")


def load_run_config(workdir: Path) -> ConfigDict:
    """Return the configuration that the run in `workdir` was started with."""
    return ConfigDict(read_config_file(workdir)["config"])


def record(workdir: Path, name: str, value: Any) -> None:
    """Add or replace one entry of config.json, such as where the data came from."""
    content = read_config_file(workdir)
    if content.get(name) != value:
        content[name] = value
        write_json(workdir / CONFIG_FILE, content)


def recorded_model_options(workdir: Path) -> dict[str, Any] | None:
    """Return the options that the run's model was built with, those from the data set included; None if unknown."""
    options = read_config_file(workdir).get("model_options")
    return options and {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}


def _plain(config: ConfigDict) -> dict[str, Any]:
    """Return the configuration as JSON would give it back, so that it can be compared with a file."""
    return decode_object(encode(config.to_dict()))


def computed_options(config: ConfigDict) -> dict[str, Any]:
    """Return the options that decide what a run computes, as JSON has them: {dotted name: value}.

    Options have the names that they had at first, and those that a model has got later are left out where they say what
    it did without them, so that runs keep the folders which are named by what they compute.
    """
    first = {f"{new}.{name}": f"{old}.{name}" for old, new, name in _MOVED}
    options = flatten(ConfigDict(_without_added_to_models(_plain(config))))
    return {first.get(name, name): value for name, value in sorted(options.items()) if not name.startswith(_FREE)}


def _without_added_to_models(config: dict[str, Any]) -> dict[str, Any]:
    model = config["model"]
    if model.get("type") not in MODELS or "backend" in model:
        return config
    missing = [
        name for name, (value, had) in _ADDED_TO_MODELS.items() if model["type"] not in had and model.get(name) == value
    ]
    return {**config, "model": {name: value for name, value in model.items() if name not in missing}}


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, after = (flatten(ConfigDict(_without_added_to_models(config))) for config in (old, new))
    before["train.seeds"], after["train.seeds"] = list(before["train.seeds"]), list(after["train.seeds"])
    names = sorted(set(before) | set(after))
    return [
        f"{name} was {before.get(name, 'absent')}, now {after.get(name, 'absent')}"
        for name in names
        if before.get(name, ...) != after.get(name, ...) and not name.startswith(_FREE)
    ]


def _check_writable(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # Without a name, so that nothing of it can stay.
        with tempfile.TemporaryFile(dir=workdir) as probe:
            probe.write(b"0" * 4096)
        free = shutil.disk_usage(workdir).free
    except OSError as error:
        raise UserError(f"cannot write to --workdir={workdir} ({error.strerror}); choose another folder") from error
    if free < _MINIMUM_FREE_BYTES:
        raise UserError(f"the disk of --workdir={workdir} has only {free / 2**20:.0f} MiB left; free some space")
