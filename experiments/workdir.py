"""A run's folder: its config.json, which decides between a new run, a resumed one and a refusal."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments.cli import flatten
from experiments.errors import UserError
from experiments.training.records import write_json
from flare_jax.convert.folder import is_converted

CONFIG_FILE = "config.json"
# Options that may differ when a run is resumed: they do not change what is computed, only where or what is drawn.
_FREE = ("mesh.", "figures", "data.dir", "data.source", "data.cache", "name")
_MINIMUM_FREE_BYTES = 64 * 2**20


def prepare(workdir: Path, config: ConfigDict, given: Mapping[str, object]) -> None:
    """Make `workdir` and write config.json, or check that it holds a run of the same configuration.

    Raises UserError if the folder cannot be written, the disk is full, or the configuration differs.
    """
    _check_writable(workdir)
    if is_converted(workdir):
        raise UserError(f"{workdir} holds a converted model, which is evaluated only; use another --workdir")
    path = workdir / CONFIG_FILE
    if path.exists():
        differing = _differences(read_config_file(workdir)["config"], _plain(config))
        if differing:
            raise UserError(
                f"{workdir} holds a run with another config ({'; '.join(differing)}); use another --workdir"
            )
        return
    if (workdir / "checkpoints").exists():
        raise UserError(f"{workdir} holds checkpoints but no {CONFIG_FILE}; use another --workdir")
    write_config_file(workdir, config, {"overrides": {name: str(value) for name, value in given.items()}})


def write_config_file(workdir: Path, config: ConfigDict, more: Mapping[str, Any]) -> None:
    """Write config.json with the configuration and further entries beside it."""
    write_json(workdir / CONFIG_FILE, {"config": _plain(config), **more})


def read_config_file(workdir: Path) -> dict[str, Any]:
    """Return the content of config.json; raises UserError where there is none or it is broken."""
    path = workdir / CONFIG_FILE
    try:
        content = json.loads(path.read_text())
        content["config"]["train"]["seeds"] = tuple(content["config"]["train"]["seeds"])
        return content
    except FileNotFoundError as error:
        raise UserError(f"{workdir} holds no {CONFIG_FILE}, so there is no run in it; check --workdir") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the configuration of a run ({error}); check --workdir") from error


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
    return json.loads(json.dumps(config.to_dict()))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before, after = flatten(ConfigDict(old)), flatten(ConfigDict(new))
    before["train.seeds"], after["train.seeds"] = list(before["train.seeds"]), list(after["train.seeds"])
    names = sorted(set(before) | set(after))
    return [
        f"{name} was {before.get(name, 'absent')}, now {after.get(name, 'absent')}"
        for name in names
        if before.get(name, ...) != after.get(name, ...) and not name.startswith(_FREE)
    ]


def _check_writable(workdir: Path) -> None:
    probe = workdir / f".write_probe_{os.getpid()}"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
        free = shutil.disk_usage(workdir).free
    except OSError as error:
        raise UserError(f"cannot write to --workdir={workdir} ({error.strerror}); choose another folder") from error
    if free < _MINIMUM_FREE_BYTES:
        raise UserError(f"the disk of --workdir={workdir} has only {free / 2**20:.0f} MiB left; free some space")
