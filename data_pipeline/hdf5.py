"""The one place that opens HDF5 files for reading: of any file only what lies in that file itself is read.

A file can name others, by external links, by datasets whose values lie in other files and by virtual datasets put
together from those of other files, and so have any file read that this user may read: all are refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.sizes import check_claim
from runtime.words import brief

Item = h5py.Group | h5py.Dataset | h5py.Datatype
Index = Sequence[slice]


@contextmanager
def open_hdf5(path: Path, kind: str = "an HDF5 file", remedy: str = "write or copy it again") -> Iterator[h5py.Group]:
    """Open the root of an HDF5 file, to be looked into by the functions below alone.

    Raises DataError for a file of another kind, and for a damaged one while it is read.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except Exception as error:  # h5py raises seven types for damaged files
        reason = brief(error)
        raise DataError(f"{path} cannot be read as {kind} ({reason}); {remedy}") from error


def members(group: h5py.Group) -> dict[str, Item]:
    """Return the groups and arrays of a group by name; raises DataError for links that lead elsewhere or nowhere."""
    return {name: _member(group, name) for name in group}


def find(group: h5py.Group, path: str) -> Item | None:
    """Return what lies at `path`, names divided by slashes, or None; raises DataError like `members`."""
    item: Item = group
    for name in _names(path):
        if not _has(item, name):
            return None
        item = _member(item, name)
    return item


def arrays(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the arrays of a group by name; raises DataError like `members`."""
    return {name: item for name, item in members(group).items() if isinstance(item, h5py.Dataset)}


def groups(group: h5py.Group) -> dict[str, h5py.Group]:
    """Return the groups in a group by name; raises DataError like `members`."""
    return {name: item for name, item in members(group).items() if isinstance(item, h5py.Group)}


def read_array(dataset: h5py.Dataset, index: Index = ()) -> np.ndarray:
    """Return the numbers of a dataset, or their part `index`; raises DataError where there are none in this file."""
    check_numbers(dataset)
    return np.asarray(dataset[tuple(index)])


def check_numbers(dataset: h5py.Dataset) -> None:
    """Raise DataError unless the values of a dataset are numbers that lie in this file."""
    where = _where(dataset)
    if dataset.shape is None:
        raise DataError(f"{where} is empty; store numbers in it or delete it")
    if dataset.dtype.kind not in "fbiu":
        raise DataError(f"{where} has dtype {dataset.dtype}, which is not numeric; store numbers in it")
    _check_inside(dataset, where)
    _check_size(dataset, where)


def read_text(dataset: h5py.Dataset) -> bytes:
    """Return the one text that a dataset of ours holds."""
    where = _where(dataset)
    if dataset.shape != () or h5py.check_string_dtype(dataset.dtype) is None:
        raise DataError(f"{where} is no text; write the file again")
    _check_inside(dataset, where)
    return dataset[()]


def read_texts(dataset: h5py.Dataset) -> np.ndarray:
    """Return the texts of a dataset as an array of strings; raises DataError where it holds others, or elsewhere."""
    where = _where(dataset)
    if dataset.shape is None or h5py.check_string_dtype(dataset.dtype) is None:
        raise DataError(f"{where} is no text; write the file again")
    _check_inside(dataset, where)
    _check_size(dataset, where)
    return np.asarray(dataset.asstr()[()], str)


def check_inside(group: h5py.Group) -> None:
    """Raise DataError unless all that a group holds lies in its file; for libraries that read the file themselves."""
    seen, waiting = {_place(group)}, [group]
    while waiting:
        for item in members(waiting.pop()).values():
            # A group may be in itself, or in another any number of times.
            if _place(item) in seen:
                continue
            seen.add(_place(item))
            if isinstance(item, h5py.Dataset):
                _check_inside(item, _where(item))
            elif isinstance(item, h5py.Group):
                waiting.append(item)


def _place(item: Item) -> int:
    return h5py.h5o.get_info(item.id).addr


def _member(group: h5py.Group, name: str, soft: bool = True) -> Item:
    """Return a member of a group; `soft` allows a link to another place in the file, which then may not be a link."""
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.HardLink):
        return group[name]
    if isinstance(link, h5py.SoftLink) and soft:
        item = group.file if link.path.startswith("/") else group
        for part in _names(link.path):
            if not _has(item, part):
                raise DataError(
                    f"{_where(group, name)} is a link to {link.path!r}, which is not there; remove the link"
                )
            item = _member(item, part, soft=False)
        return item
    if isinstance(link, h5py.SoftLink):
        raise DataError(f"{_where(group, name)} is a link that is reached through a link; link to the array itself")
    target = f" to {link.filename!r}" if isinstance(link, h5py.ExternalLink) else ""
    raise DataError(f"{_where(group, name)} is a link{target} outside of this file; copy the data into the file itself")


def _has(item: Item, name: str) -> bool:
    return isinstance(item, h5py.Group) and item.id.links.exists(name.encode())


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _check_inside(dataset: h5py.Dataset, where: str) -> None:
    if dataset.external:
        raise DataError(
            f"{where} keeps its values in another file, {dataset.external[0][0]!r}; copy them into the file itself"
        )
    if dataset.is_virtual:
        raise DataError(
            f"{where} is put together from other arrays (a virtual dataset); copy their values into one array"
        )


def _check_size(dataset: h5py.Dataset, where: str) -> None:
    size = Path(dataset.file.filename).stat().st_size
    stored = min(dataset.id.get_storage_size(), size)
    check_claim(dataset.nbytes, stored, where, compressed=dataset.id.get_create_plist().get_nfilters() > 0)


def _where(item: Item, name: str = "") -> str:
    place = "/".join(part for part in ((item.name or "").strip("/"), name) if part)
    return f"{item.file.filename}[{place}]"
