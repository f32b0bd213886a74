"""Fetching a public set: transfer, unpacking, a look at the shapes, a record of what was received from where."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from data_pipeline.download.sources import PublicSet, Remote, find_public
from data_pipeline.download.transfer import check_repository, check_space, fetch, hub_error, hub_package, is_address
from data_pipeline.download.unpack import is_archive, unpack
from data_pipeline.errors import DataError
from data_pipeline.files import SOURCE_FILE, matching
from data_pipeline.language.corpus import read_documents
from data_pipeline.registry import DATASETS, load_dataset
from data_pipeline.sequence.registry import TASKS, load_task
from data_pipeline.vtk import read_mesh
from runtime.files import file_digest, remove, remove_leftovers
from runtime.json_files import read_object, write_json
from runtime.locks import locked
from runtime.options import defaults_of

Say = Callable[[str], None]
RECORD_FILE = "DOWNLOAD.json"
# Below the data root; archives lie there until they are unpacked.
TRANSFERS = ".downloads"
# Of the size of an archive, with it: what numbers unpack to.
_UNPACKED = 2.5


def download(name: str, data_dir: Path, mirror: str, say: Say, runs: Collection[int] = ()) -> None:
    """Fetch what data set or task `name` needs, and check that its loader takes it; raises DataError.

    Of a set of many runs `runs` are fetched, or all. A program that is killed at any moment leaves what the next call
    goes on from: until all is in place, checked and recorded, a mark says that it is not, and archives stay.
    """
    if "://" in mirror and not is_address(mirror):
        raise DataError(f"--mirror={mirror} is neither a folder nor an address that begins with http:// or https://")
    public = find_public(name).of_runs(runs)
    folder, transfers = data_dir / public.folder, data_dir / TRANSFERS
    unfinished = transfers / f"{public.serves[0]}.unfinished"
    if _holds(public, name, data_dir) and not unfinished.exists():
        if not _recorded(public, folder):  # of unknown origin, or not what its loader takes
            check(name, data_dir)
        say(f"{name}: already in {folder}")
        return
    transfers.mkdir(parents=True, exist_ok=True)
    with locked(transfers, f"another process downloads to {data_dir}; wait for its end"):
        _refuse_generated(folder)
        remove_leftovers(transfers)
        unfinished.touch()
        record = _fetch_all(public, folder, transfers, mirror, say)
        problem = _problem(public, name, data_dir)
        if problem is None:
            remove_leftovers(folder)
            write_json(folder / RECORD_FILE, {**read_record(folder), **record})
        _finish(public, transfers, unfinished)
    if problem is not None:
        raise problem
    say(f"{name}: fetched to {folder}; {RECORD_FILE} there says from where, with SHA-256 sums")


def _problem(public: PublicSet, name: str, data_dir: Path) -> DataError | None:
    """Return what is wrong with all that was received, which is not fetched again."""
    if not _holds(public, name, data_dir):
        return DataError(
            f"what was received does not hold the files of {name} as they are expected below "
            f"{data_dir / public.folder}; it was left there: compare the names, or take another --mirror"
        )
    try:
        check(name, data_dir)
    except DataError as error:
        return error
    return None


def _finish(public: PublicSet, transfers: Path, unfinished: Path) -> None:
    """Remove what is needed no more."""
    for file in public.files:
        if is_archive(Path(file.name)):
            (transfers / Path(file.name).name).unlink(missing_ok=True)
    unfinished.unlink()
    if not [path for path in transfers.iterdir() if not path.name.startswith(".")]:
        remove(transfers)


def is_there(name: str, data_dir: Path) -> bool:
    """Tell whether the files of a data set, task or text are there, not generated ones, whoever put them there."""
    return _holds(find_public(name), name, data_dir)


def _holds(public: PublicSet, name: str, data_dir: Path) -> bool:
    if public.documents:
        return len(list((data_dir / public.folder).rglob(public.documents))) == public.count
    if public.cell_fields:
        return all((data_dir / public.folder / file.place).exists() for file in public.files)
    if name in DATASETS:
        record = DATASETS[name]
        place = record.place(data_dir)
        return all((place / file).exists() for file in record.files) and not (place / SOURCE_FILE).exists()
    task, values = TASKS[name], defaults_of(TASKS[name].options)
    return any(
        layout.complete(data_dir, values) and not (layout.place(data_dir, values) / SOURCE_FILE).exists()
        for layout in task.layouts
    )


def check(name: str, data_dir: Path) -> None:
    """Read a few samples, by which the loader checks names, shapes and numbers of files; raises DataError."""
    public = find_public(name)
    if public.cell_fields:
        _check_mesh(data_dir / public.folder, public)
    elif public.documents:
        read_documents(data_dir / public.folder, public.documents)
    elif name in DATASETS:
        values = defaults_of(DATASETS[name].options)
        load_dataset(name, data_dir, num_generate=1, n_train=1, n_test=1, options=values, say=_quiet)
    else:
        load_task(name, data_dir, num_generate=1, n_train=1, n_test=1, say=_quiet)


def _check_mesh(folder: Path, public: PublicSet) -> None:
    """Read the first mesh that is there; raises DataError where it lacks a field at its cells."""
    path = next(folder / file.place for file in public.files if (folder / file.place).exists())
    missing = set(public.cell_fields) - set(read_mesh(path).cell_data.keys())
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))} at its cells; take another --mirror")


def read_record(folder: Path) -> dict[str, Any]:
    """Return what is known of the files received into a folder: by name the address, bytes and sum."""
    path = folder / RECORD_FILE
    return read_object(path) if path.is_file() else {}


def _recorded(public: PublicSet, folder: Path) -> bool:
    record = read_record(folder)
    return bool(record) if public.snapshot else all(file.name in record for file in public.files)


def _fetch_all(public: PublicSet, folder: Path, transfers: Path, mirror: str, say: Say) -> dict[str, Any]:
    if public.snapshot:
        return _fetch_snapshot(public, folder, mirror, say)
    record = read_record(folder)
    if public.runs and not mirror:
        check_repository([file for file in public.files if not (folder / file.place).exists()], transfers)
    for remote in public.files:
        archive = is_archive(Path(remote.name))
        # Loose files stay where they arrive.
        target = transfers / Path(remote.name).name if archive else folder / remote.place
        if not archive and target.exists() and remote.name in record:
            continue
        fetch(remote, target, mirror, 1 + _UNPACKED * archive, say)
        _check_sum(remote, target)
        entry = {"source": f"{mirror.rstrip('/')}/{remote.name}" if mirror else remote.origin}
        record[remote.name] = {**entry, "bytes": target.stat().st_size, "sha256": file_digest(target)}
        if archive:
            _unpack(target, folder, public.inner)
        elif public.runs:  # of which the first says whether the others are worth their hours
            if len(record) == 1:
                _check_mesh(folder, public)
            write_json(folder / RECORD_FILE, record)
    remove(folder / ".cache")  # what the hub's library notes beside loose files
    return record


def _unpack(archive: Path, folder: Path, inner: str) -> None:
    try:
        unpack(archive, folder, inner)
    except DataError:
        archive.unlink()  # it would be taken for received next time
        raise


def _check_sum(remote: Remote, path: Path) -> None:
    found = file_digest(path, "md5") if remote.md5 else ""
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
    sums = {str(path.relative_to(folder)): file_digest(path) for path in files}
    return {public.snapshot: {"source": mirror or origin, "sha256": sums}}


def _refuse_generated(folder: Path) -> None:
    """Public and generated files of one name must not be mixed up."""
    found = next(iter(sorted(folder.rglob(SOURCE_FILE))), None)
    if found is not None:
        raise DataError(
            f"{found.parent} holds generated data; use another --data_dir for the public ones, or remove it"
        )


def _quiet(text: str) -> None:
    """Say nothing: what loaders tell is for those who train."""
