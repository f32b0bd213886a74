"""Checkpoints of our runs as folders: `STEP/state`, the arrays, and `STEP/record/metadata`, what belongs to them.

The record holds the run's configuration, the metrics by which checkpoints are ranked, and SHA-256 sums of all arrays
and of the weights alone. A sum is compared whenever arrays are read; one that is missing counts as wrong.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flare_jax.params import digest
from runtime.json_files import read_object

STATE, RECORD = "state", "record"
FORMAT = 1
_WEIGHTS = ("params", "ema")


class OtherStateError(ValueError):
    """A checkpoint is sound, and holds other arrays than those that are asked for.

    `names` are the paths of these arrays; where all are in the optimizer's state, `weights_fit`.
    """

    def __init__(self, checkpoint: Path, names: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint
        self.weights_fit = not any(name.split("/")[0] in _WEIGHTS for name in names)


def checkpoint_steps(directory: Path) -> list[int]:
    """Return the steps of the checkpoints in `directory`, oldest first; one gets its name once it is complete."""
    names = [path.name for path in directory.glob("*") if path.name.isdecimal() and path.is_dir()]
    return sorted(int(name) for name in names if str(int(name)) == name)


def make_record(tree: dict[str, Any], metrics: dict[str, float] | None, config: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a checkpoint with the arrays `tree`, which has `params` and `ema` among its entries."""
    return {
        "format": FORMAT,
        "digest": digest(tree),
        # By which the weights alone can be checked without knowing the optimizer's structure.
        "weights_digest": digest({name: tree[name] for name in _WEIGHTS}),
        "metrics": metrics,
        "config": config,
    }


def read_record(checkpoint: Path) -> dict[str, Any]:
    """Return the record of a checkpoint; raises ValueError if it is missing, damaged or of another version."""
    try:
        record = read_object(checkpoint / RECORD / "metadata")
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint {checkpoint} cannot be read (record: {_reason(error)})") from error
    expected = {"format": int, "digest": str, "weights_digest": str, "metrics": dict | None, "config": dict}
    for name, kind in expected.items():
        if not isinstance(record.get(name), kind):
            raise ValueError(f"checkpoint {checkpoint} cannot be read (its record has no valid {name!r})")
    if record["format"] != FORMAT:
        raise ValueError(f"checkpoint {checkpoint} has format {record['format']}, but this version reads {FORMAT}")
    return record


def read_state(checkpoint: Path, template: Any) -> Any:
    """Return all arrays of a checkpoint, placed like those of `template`.

    Raises ValueError if they are damaged, and OtherStateError, with what differs, if they are not those of `template`.
    """
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template)
    # Orbax would name no array, and leave reads behind that it has begun.
    _check_structure(checkpoint, abstract)
    return _read(checkpoint, "digest", lambda state: ocp.StandardCheckpointer().restore(state, abstract))


def read_weights(checkpoint: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return `params` and `ema` of a checkpoint as NumPy arrays, whatever the devices they were saved from.

    `ema` is empty where the run keeps no average. Raises ValueError if they are damaged.
    """
    return _read(checkpoint, "weights_digest", _restore_weights)


def _read(checkpoint: Path, digest_name: str, restore: Callable[[Path], Any]) -> Any:
    record = read_record(checkpoint)
    try:
        restored = restore(checkpoint.absolute() / STATE)
    except Exception as error:  # Orbax and TensorStore raise many types for damaged files
        raise ValueError(f"checkpoint {checkpoint} cannot be read ({_reason(error)})") from error
    if digest(restored) != record[digest_name]:
        raise ValueError(f"checkpoint {checkpoint} does not match its own hash")
    return restored


def _check_structure(checkpoint: Path, wanted: Any) -> None:
    """Raise OtherStateError, with what to do, where it is known that a checkpoint is not like the tree `wanted`."""
    try:
        stored = _described(ocp.PyTreeCheckpointHandler().metadata(checkpoint.absolute() / STATE).tree)
    except Exception:  # Orbax and TensorStore raise many types for damaged files
        return
    here = _described(wanted)
    names = [name for name in sorted(stored | here) if stored.get(name) != here.get(name)]
    if not names:
        return
    some = "; ".join(
        f"{name} ({stored.get(name, 'absent')} there, {here.get(name, 'absent')} here)" for name in names[:3]
    )
    if any(name.split("/")[0] in _WEIGHTS for name in names):
        what, remedy = "weights", "it is of another model: move it away, or start in another workdir"
    else:
        what = "an optimizer's state"
        remedy = (
            "it is of another optimizer, or of another version of the program: its weights can be used, to evaluate, "
            "to predict, and by --config.train.init_from to train on in another workdir"
        )
    raise OtherStateError(
        checkpoint,
        names,
        f"checkpoint {checkpoint} holds {what} of another structure than this run has, {len(names)} arrays, first "
        f"{some}; {remedy}",
    )


def _described(tree: Any) -> dict[str, str]:
    """Return type and shape of every array of a tree, by the path to it."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _restore_weights(state: Path) -> dict[str, dict[str, np.ndarray]]:
    # The handler, which knows what is in the folder of an item: a checkpointer also looks there for what Orbax keeps of
    # a whole step, and warns that it is not there.
    handler = ocp.PyTreeCheckpointHandler()
    stored = handler.metadata(state).tree
    wanted = {name: stored[name] or {} for name in _WEIGHTS}
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    restored = handler.restore(
        state, args=ocp.args.PyTreeRestore(item=wanted, restore_args=arguments, partial_restore=True)
    )
    return {name: dict(restored[name] or {}) for name in _WEIGHTS}


def _reason(error: BaseException) -> str:
    """Return the first line of an error's message, cut at 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
