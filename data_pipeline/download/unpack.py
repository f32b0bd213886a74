"""Archives into folders: whole or not at all, and nothing outside of the folder."""

import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from data_pipeline.download.transfer import check_space
from data_pipeline.errors import DataError
from runtime.files import remove

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Tell whether the name is that of an archive."""
    return path.name.endswith((".tar.gz", ".tgz", ".tar", ".zip", ".gz"))


def unpack(archive: Path, folder: Path, inner: str = "") -> None:
    """Unpack into `folder`, whose name may be that of the one folder in the archive, beside what is there.

    Archives within that fit the pattern `inner` are unpacked where they lie, and removed. Raises DataError for an
    archive that is broken, or holds links or places outside of the folder; `folder` is as before then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.unpacking")
    remove(temporary)
    temporary.mkdir()
    try:
        _extract(archive, temporary)
        for nested in sorted(temporary.rglob(inner)) if inner else ():
            _extract(nested, nested.parent)
            nested.unlink()
        _merge(_content(temporary, folder.name), folder)
    finally:
        remove(temporary)


def _extract(archive: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, folder)
        else:
            _extract_tar(archive, folder)
    except tarfile.FilterError as error:
        raise DataError(f"{archive} holds a place or link outside of its folder ({error}); do not use it") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, tarfile.TarError):
            raise  # of the file system
        with archive.open("rb") as file:
            start = file.read(16)
        raise DataError(
            f"{archive.name} is cut off or no archive ({' '.join(str(error).split()) or type(error).__name__}; it "
            f"begins with {start!r}); get it again, or from another --mirror"
        ) from error


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as file:
        # Read to its end first: a cut or a bad name is found before anything is written.
        members = file.getmembers()
        for member in members:
            tarfile.data_filter(member, str(folder))
        check_space(folder, sum(member.size for member in members))
        file.extractall(folder, members=members, filter="data")


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            path = PurePosixPath(member.filename)
            linked = (member.external_attr >> 16) & 0o170000 == 0o120000
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename or linked:
                raise DataError(
                    f"{archive} holds a place or link outside of its folder ({member.filename}); do not use it"
                )
        check_space(folder, sum(member.file_size for member in file.infolist()))
        broken = file.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"{broken} does not match its sum")
        file.extractall(folder)


def _content(temporary: Path, name: str) -> Path:
    """Return the folder whose content is wanted: archives hold it as it is, or in a folder of its name."""
    inside = temporary / name
    return inside if inside.is_dir() and not (inside / name).is_dir() else temporary


def _merge(source: Path, folder: Path) -> None:
    for path in sorted(source.rglob("*")):
        place = folder / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place)
