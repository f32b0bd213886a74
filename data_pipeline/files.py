"""Reading and checking of data files; every problem becomes one DataError sentence."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.numpy_files import load_npy, open_npz

SOURCE_FILE = "SOURCE.json"


def read_npy(path: Path, shape: Sequence[int | None] | None, index: Any = ()) -> np.ndarray:
    """Read a `.npy` file as floating-point numbers and check it against `shape`, in which None stands for any size.

    Of a large file only `array[index]` is read into memory; `shape` is that of the whole array, None for any.
    """
    array = load_npy(path, mapped=index != ())
    check_shape(array, array.shape if shape is None else shape, str(path))
    return finite(np.asarray(array[index]), str(path))


def read_npz(path: Path, shapes: dict[str, Sequence[int | None]]) -> dict[str, np.ndarray]:
    """Read the named arrays of a `.npz` file as floating-point numbers, each checked against its shape."""
    with open_npz(path) as archive:
        missing = sorted(set(shapes) - set(archive.files))
        if missing:
            raise DataError(f"{path} has the arrays {sorted(archive.files)} but lacks {missing}; get the file again")
        arrays = {name: archive.read(name) for name in shapes}
    return {name: checked(array, shapes[name], f"{path}[{name}]") for name, array in arrays.items()}


def checked(array: np.ndarray, shape: Sequence[int | None], where: str) -> np.ndarray:
    """Return `array` as floating-point numbers after checking its shape and that they are finite."""
    check_shape(array, shape, where)
    return finite(array, where)


def check_shape(array: Any, shape: Sequence[int | None], where: str) -> None:
    """Raise DataError unless something with a shape and a dtype is numeric and has `shape`."""
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
        raise DataError(f"{where} has shape {array.shape} where {wanted} is expected; check that it is the right file")
    if array.dtype.kind not in "fbiu":
        raise DataError(f"{where} has dtype {array.dtype}, which is not numeric; check that it is the right file")


def finite(array: np.ndarray, where: str) -> np.ndarray:
    """Return `array` after checking that it holds numbers only, all in the range of float32.

    The dtype is float32 where that holds all values of the array's own, else float64: statistics and centring come
    before the cast.
    """
    array = array.astype(np.float32 if np.can_cast(array.dtype, np.float32) else np.float64, copy=False)
    with np.errstate(over="ignore"):
        fine = np.isfinite(array.astype(np.float32, copy=False))
    bad = int(array.size - fine.sum())
    if bad and np.isfinite(array).all():
        raise DataError(
            f"{where} holds {bad} values beyond the range of float32, 3.4e38, the largest {np.abs(array).max():.1e}; "
            "choose a larger unit"
        )
    if bad:
        first = tuple(int(i) for i in np.argwhere(~fine)[0])
        raise DataError(
            f"{where} holds {bad} NaN or infinite values, the first at index {first}; repair or regenerate it"
        )
    return array


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return, sorted, what fits a pattern below a folder; not hidden files (`._a.txt`), which archives leave there."""
    return _shown(folder, folder.glob(pattern))


def chosen_files(folder: Path, pattern: str, nested: bool = False) -> list[Path]:
    """Return as `matching` does what fits `data.files`, anything where it is empty; `nested` in subfolders, too.

    Raises DataError for what is no pattern.
    """
    try:
        return _shown(folder, (folder.rglob if nested else folder.glob)(pattern or "*"))
    except (ValueError, NotImplementedError) as error:
        raise DataError(
            f"data.files={pattern!r} is no pattern of names below a folder ({error}); write one such as *.vtu or *.txt"
        ) from error


def _shown(folder: Path, found: Iterable[Path]) -> list[Path]:
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def read_source(folder: Path) -> dict | None:
    """Return what SOURCE.json says of generated data in `folder`, or None where the files are public ones."""
    path = folder / SOURCE_FILE
    if not path.exists():
        return None
    try:
        source = read_json(path)
    except ValueError as error:
        raise DataError(f"{error}; delete the folder and generate the data again") from error
    if not isinstance(source, dict):
        raise DataError(f"{path} holds no description of generated data; delete the folder and generate them again")
    return source


# Options of generation, and what SOURCE.json calls them.
_GENERATION = {"num_generate": "num", "generate_seed": "seed", "resolution": "resolution"}


def check_generated_with(folder: Path, wanted: Mapping[str, int]) -> None:
    """Raise DataError unless the data in `folder` were generated with the options `wanted`, by their names."""
    source = read_source(folder)
    for name, value in wanted.items():
        if source is None:
            raise DataError(
                f"data.{name}={value} has no effect, for {folder} holds public files; leave it out, or use another "
                "--data_dir to generate data"
            )
        found = {**source.get("settings", {}), **source}.get(_GENERATION[name], "nothing of that name")
        if found != value:
            raise DataError(
                f"data.{name}={value} has no effect, for the data in {folder} were generated with {found}; leave it "
                "out, or use another --data_dir to generate others"
            )


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raises ValueError, the beginning of a sentence, where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error})") from error


def first_samples(total: int, count: int, option: str, where: str) -> slice:
    """Return the slice of the first `count` of `total` samples; `option` names the setting in the error."""
    if not 1 <= count <= total:
        raise DataError(f"{option}={count}, but {where} holds {total} samples; choose from 1 to {total}")
    return slice(0, count)


def last_samples(total: int, count: int, option: str, where: str) -> slice:
    """Return the slice of the last `count` of `total` samples."""
    first_samples(total, count, option, where)
    return slice(total - count, total)


def split_ends(total: int, n_train: int, n_test: int, where: str) -> tuple[slice, slice]:
    """Return the slices of the first `n_train` and the last `n_test` samples; they must not overlap."""
    train = first_samples(total, n_train, "data.n_train", where)
    test = last_samples(total, n_test, "data.n_test", where)
    if n_train + n_test > total:
        raise DataError(
            f"{where} holds {total} samples, fewer than data.n_train={n_train} plus data.n_test={n_test}; "
            "lower these or provide more samples"
        )
    return train, test
