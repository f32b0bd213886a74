"""Files that hold PyTorch state_dicts: the original's snapshots (.pt), and plain arrays (.npz, .safetensors).

A snapshot holds the model under `model_state` and, where the run kept one, the average of the weights under
`ema_shadow`, beside optimizer and statistics, which are not used here. In the other two formats the names of the arrays
are those of the state_dict, or start with `model_state/` and `ema_shadow/`. Only .pt needs PyTorch.
"""

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib import npyio as npy_io

from flare_jax.convert.safetensors import read_safetensors, write_safetensors
from runtime.files import replacing
from runtime.words import brief

StateDict = dict[str, np.ndarray]

_MOST_COMPRESSION = 1100  # of deflate, which makes its input smaller by a factor of 1032 at most
_MODEL, _AVERAGE = "model_state", "ema_shadow"
_NO_TORCH = "needs PyTorch: run `python -m pip install torch`, or use .npz or .safetensors"


@dataclass(frozen=True)
class Snapshot:
    """The weights of a checkpoint: `raw`, and their average `ema` where there is one. `step` is None if unknown."""

    raw: StateDict
    ema: StateDict | None = None
    step: int | None = None


def read_snapshot(path: Path | str) -> Snapshot:
    """Read a checkpoint or state_dict; raises ValueError for an unreadable file, an unknown kind or missing PyTorch."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint {path} is not a file; name a .pt, .npz or .safetensors file")
    reader = {".npz": _read_npz, ".safetensors": _read_safetensors, ".pt": _read_pt, ".pth": _read_pt}.get(path.suffix)
    if reader is None:
        raise ValueError(f"checkpoint {path} ends in {path.suffix!r}; name a .pt, .npz or .safetensors file")
    snapshot = reader(path)
    if not snapshot.raw:
        raise ValueError(f"checkpoint {path} holds no arrays; check that it is the right file")
    return snapshot


def write_state_dict(path: Path, raw: StateDict, ema: StateDict | None) -> None:
    """Write a state_dict that the original loads.

    A .pt holds a snapshot with both sets of weights; .npz and .safetensors hold `raw` under the state_dict's own names.
    """
    with replacing(path) as temporary:
        find_writer(path)(temporary, raw, ema)


def find_writer(path: Path) -> Callable[[Path, StateDict, StateDict | None], None]:
    """Return the writer for the kind of file that `path` names; raises ValueError if there is none."""
    writers = {".npz": _write_npz, ".safetensors": _write_safetensors, ".pt": _write_pt, ".pth": _write_pt}
    if path.suffix not in writers:
        raise ValueError(f"--out={path} ends in {path.suffix!r}; choose a name ending in .npz, .safetensors or .pt")
    if writers[path.suffix] is _write_pt:
        _import_torch(path)
    return writers[path.suffix]


def _read_npz(path: Path) -> Snapshot:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, npy_io.NpzFile):
            raise ValueError("it holds one array without a name; write all with np.savez")
        with archive:
            for member in archive.zip.infolist():
                with archive.zip.open(member) as file:
                    _check_member(file, member, path.stat().st_size)
            return _from_named_arrays(dict(archive))
    except Exception as error:  # zip, decompression, headers: each raises its own for damaged files
        reason = brief(error)
        raise ValueError(f"{path} cannot be read as an npz archive ({reason}); get the file again") from error


def _check_member(file: zipfile.ZipExtFile, member: zipfile.ZipInfo, size: int) -> None:
    """Raise ValueError where an array claims more than its file has, before memory is asked for."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{member.filename} has a header of version {version}")
    shape, _, dtype = readers[version](file)
    stored = min(member.file_size - file.tell(), _MOST_COMPRESSION * min(member.compress_size, size))
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > stored:
        raise ValueError(f"{member.filename} claims shape {shape} of {dtype} in {stored} bytes")


def _read_safetensors(path: Path) -> Snapshot:
    return _from_named_arrays(read_safetensors(path))


def _from_named_arrays(arrays: Mapping[str, np.ndarray]) -> Snapshot:
    sets = {
        kind: {name.removeprefix(f"{kind}/"): value for name, value in arrays.items() if name.startswith(f"{kind}/")}
        for kind in (_MODEL, _AVERAGE)
    }
    return Snapshot(sets[_MODEL] or dict(arrays), sets[_AVERAGE] or None)


def _read_pt(path: Path) -> Snapshot:
    torch = _import_torch(path)
    try:
        # weights_only: nothing in the file is executed.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged and for refused files
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a PyTorch checkpoint ({reason}); get the file again, or, if PyTorch "
            "opens it, save its model_state alone"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary; save model.state_dict() instead")
    if _MODEL not in content:
        return Snapshot(_to_numpy(path, content))
    average, step = content.get(_AVERAGE), content.get("step")
    return Snapshot(
        _to_numpy(path, content[_MODEL]),
        _to_numpy(path, average) if average else None,
        step if isinstance(step, int) else None,
    )


def _to_numpy(path: Path, tensors: Mapping[str, Any]) -> StateDict:
    others = [name for name, value in tensors.items() if not hasattr(value, "detach")]
    if others:
        raise ValueError(
            f"{path} holds no state_dict: entry {others[0]!r} is not a tensor; save model.state_dict(), or a "
            f"dictionary with that under {_MODEL!r}"
        )
    return {name: _tensor_to_numpy(value) for name, value in tensors.items()}


def _tensor_to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16 of PyTorch's kind; float32 holds its values exactly.
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _write_npz(path: Path, raw: StateDict, ema: StateDict | None) -> None:
    del ema  # a plain state_dict holds one set of weights
    with path.open("wb") as file:
        np.savez(file, **raw)


def _write_safetensors(path: Path, raw: StateDict, ema: StateDict | None) -> None:
    del ema  # a plain state_dict holds one set of weights
    write_safetensors(path, raw)


def _write_pt(path: Path, raw: StateDict, ema: StateDict | None) -> None:
    torch = _import_torch(path)
    sets = {_MODEL: raw} if ema is None else {_MODEL: raw, _AVERAGE: ema}
    torch.save(
        {
            kind: {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
            for kind, state in sets.items()
        },
        path,
    )


def _import_torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise ValueError(f"{path} {_NO_TORCH}") from error
    return torch
