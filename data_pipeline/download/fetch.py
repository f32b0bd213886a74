"""Fetching a public set: transfer, unpacking, a look at the shapes, a record of what was received from where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_pipeline.download.sources import PublicSet, Remote, find_public
from data_pipeline.download.transfer import check_space, digest, fetch, hub_error, hub_package
from data_pipeline.download.unpack import is_archive, unpack
from data_pipeline.errors import DataError
from data_pipeline.files import SOURCE_FILE, matching
from data_pipeline.registry import DATASETS, load_dataset
from data_pipeline.sequence.registry import TASKS, load_task
from runtime.files import remove
from runtime.json_files import read_object, write_json
from runtime.locks import locked

Say = Callable[[str], None]
RECORD_FILE = "DOWNLOAD.json"
# Below the data root; archives lie there until they are unpacked.
TRANSFERS = ".downloads"
# Of the size of an archive, with it: what numbers unpack to.
_UNPACKED = 2.5


def download(name: str, data_dir: Path, mirror: str, say: Say) -> None:
    """Fetch what data set or task `name` needs, and check that its loader takes it; raises DataError."""
    public = find_public(name)
    folder = data_dir / public.folder
    if is_there(name, data_dir):
        if not read_record(folder):  # of unknown origin, or not what its loader takes
            check(name, data_dir)
        say(f"{name}: already in {folder}")
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    transfers = data_dir / TRANSFERS
    transfers.mkdir(exist_ok=True)
    with locked(transfers, f"another process downloads to {data_dir}; wait for its end"):
        _refuse_generated(folder)
        record = _fetch_all(public, folder, transfers, mirror, say)
        if not is_there(name, data_dir):
            raise DataError(
                f"what was received does not hold the files of {name} as they are expected below {folder}; it was left "
                "there: compare the names, or take another --mirror"
            )
        check(name, data_dir)
        write_json(folder / RECORD_FILE, {**read_record(folder), **record})
    _remove_if_empty(transfers)
    say(f"{name}: fetched to {folder}; {RECORD_FILE} there says from where, with SHA-256 sums")


def is_there(name: str, data_dir: Path) -> bool:
    """Tell whether the files of a data set or task are there, not generated ones, whoever put them there."""
    if name in DATASETS:
        record = DATASETS[name]
        place = record.place(data_dir)
        return all((place / file).exists() for file in record.files) and not (place / SOURCE_FILE).exists()
    task = TASKS[name]
    return any(
        layout.complete(data_dir, task.options) and not (layout.place(data_dir, task.options) / SOURCE_FILE).exists()
        for layout in task.layouts
    )


def check(name: str, data_dir: Path) -> None:
    """Read a few samples, by which the loader checks names, shapes and numbers of files; raises DataError."""
    if name in DATASETS:
        load_dataset(name, data_dir, num_generate=1, n_train=1, n_test=1, options=DATASETS[name].options, say=_quiet)
    else:
        load_task(name, data_dir, num_generate=1, n_train=1, n_test=1, say=_quiet)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what is known of the files received into a folder: by name the address, bytes and sum."""
    path = folder / RECORD_FILE
    return read_object(path) if path.is_file() else {}


def _fetch_all(public: PublicSet, folder: Path, transfers: Path, mirror: str, say: Say) -> dict[str, Any]:
    if public.snapshot:
        return _fetch_snapshot(public, folder, mirror, say)
    record: dict[str, Any] = {}
    for remote in public.files:
        archive = is_archive(Path(remote.name))
        # Loose files stay where they arrive; the folder of the set is what they share a name within.
        target = transfers / Path(remote.name).name if archive else folder / Path(remote.name).name
        fetch(remote, target, mirror, 1 + _UNPACKED * archive, say)
        _check_sum(remote, target)
        entry = {"source": f"{mirror.rstrip('/')}/{remote.name}" if mirror else remote.origin}
        record[remote.name] = {**entry, "bytes": target.stat().st_size, "sha256": digest(target)}
        if archive:
            _unpack(target, folder, public.inner)
    remove(folder / ".cache")  # what the hub's library notes beside loose files
    return record


def _unpack(archive: Path, folder: Path, inner: str) -> None:
    try:
        unpack(archive, folder, inner)
    except DataError:
        archive.unlink()  # it would be taken for received next time
        raise
    archive.unlink()


def _check_sum(remote: Remote, path: Path) -> None:
    found = digest(path, "md5") if remote.md5 else ""
    if found != remote.md5:
        path.unlink()
        raise DataError(
            f"{remote.name} has the MD5 sum {found}, but {remote.md5} is published; it was removed: run the same "
            "command again, or choose another --mirror"
        )


def _fetch_snapshot(public: PublicSet, folder: Path, mirror: str, say: Say) -> dict[str, Any]:
    """Fetch a repository of the hub, whose library goes on where it was interrupted."""
    origin = public.origins[0]
    if mirror:
        source = Path(mirror) / public.folder
        if not source.is_dir():
            raise DataError(
                f"--mirror={mirror} is no folder that holds {public.folder}; {public.serves[0]} is many files, which "
                "only a folder on a disk can list"
            )
        for path in matching(source, "**/*"):
            if path.is_file():
                fetch(Remote(str(path.relative_to(source))), folder / path.relative_to(source), str(source), 1.0, say)
    else:
        say(f"{origin}: a repository")
        hub = hub_package()
        try:
            info = hub.HfApi().dataset_info(public.snapshot, files_metadata=True)
            check_space(folder.parent, sum(file.size or 0 for file in info.siblings))
            hub.snapshot_download(public.snapshot, repo_type="dataset", local_dir=folder)
        except DataError:
            raise
        except Exception as error:  # the hub's library raises those of its HTTP library too
            raise hub_error(origin, error) from error
        remove(folder / ".cache")
    files = [path for path in matching(folder, "**/*") if path.is_file() and path.name != RECORD_FILE]
    sums = {str(path.relative_to(folder)): digest(path) for path in files}
    return {public.snapshot: {"source": mirror or origin, "sha256": sums}}


def _refuse_generated(folder: Path) -> None:
    """Public and generated files of one name must not be mixed up."""
    found = next(iter(sorted(folder.rglob(SOURCE_FILE))), None)
    if found is not None:
        raise DataError(
            f"{found.parent} holds generated data; use another --data_dir for the public ones, or remove it"
        )


def _remove_if_empty(folder: Path) -> None:
    if not [path for path in folder.iterdir() if not path.name.startswith(".")]:
        remove(folder)


def _quiet(text: str) -> None:
    """Say nothing: what loaders tell is for those who train."""
