"""Files over HTTP, from the Hugging Face hub, or from a mirror; what was received before an interruption is kept."""

import http.client
import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from data_pipeline.download.sources import Remote
from data_pipeline.errors import DataError
from runtime.files import write_text
from runtime.words import brief

Say = Callable[[str], None]
_BLOCK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT = 60.0
_AGAIN = "run the same command again to go on from there"


def fetch(remote: Remote, target: Path, mirror: str, needs: float, say: Say) -> Path:
    """Return `target` with the content of a file, which is fetched unless it is there.

    `needs` is the multiple of its size that the disk must have free. Raises DataError, and keeps what was received.
    """
    if target.exists():
        _notes(target).unlink(missing_ok=True)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    if mirror and not is_address(mirror):
        _copy(Path(mirror) / remote.name, target, needs)
    elif mirror or remote.url:
        fetch_http(f"{mirror.rstrip('/')}/{remote.name}" if mirror else remote.url, target, needs, say)
    else:
        _fetch_from_hub(remote, target, needs)
    return target


def check_space(folder: Path, needed: float) -> None:
    """Raise DataError unless the disk of `folder` has `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"the disk of {folder} has {free / 2**30:.2f} GiB left, but this needs {needed / 2**30:.2f} GiB; free "
            "space, or choose another --data_dir"
        )


def fetch_http(url: str, target: Path, needs: float, say: Say) -> None:
    """Fetch `url` into `target`, going on where an earlier transfer of the same content ended."""
    part, notes = target.with_name(f"{target.name}.part"), _notes(target)
    reason = ""
    for _ in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            total = _transfer(url, part, notes, needs, say)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is here is no part of what is there
                part.unlink(missing_ok=True)
                continue
            raise DataError(
                f"{url} cannot be fetched (HTTP {error.code} {error.reason}); check the address, or give "
                "another --mirror"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason, total = str(getattr(error, "reason", error)) or type(error).__name__, None
        received = part.stat().st_size if part.exists() else 0
        if total is not None and received == total:
            part.replace(target)
            notes.unlink(missing_ok=True)
            return
        if received == before and not received and reason:
            break  # nothing answers
        reason = reason or f"the connection ended after {received} of {total} bytes"
    kept = part.stat().st_size if part.exists() else 0
    remedy = f"{kept} bytes are kept in {part}: {_AGAIN}" if kept else "check address and network, or give --mirror"
    raise DataError(f"{url} could not be fetched whole ({reason}); {remedy}")


def _transfer(url: str, part: Path, notes: Path, needs: float, say: Say) -> int | None:
    """Append what is missing to `part`; return the size of the whole, None where the server does not tell."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "flare_jax", "Accept-Encoding": "identity"})
    known = _read_notes(notes)
    if have and known.get("url") == url and known.get("etag"):
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known["etag"])  # other content comes whole
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        resumed = response.status == 206
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        check_space(part.parent, needs * (total or 0) - start)
        etag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        write_text(notes, json.dumps({"url": url, "etag": "" if etag.startswith("W/") else etag}))
        size = "of unknown size" if total is None else f"{total / 2**20:.1f} MiB"
        say(f"{url}: {size}" + (f", going on after {start / 2**20:.1f} MiB" if resumed else ""))
        # Without buffers: what has arrived is in the file, however the program ends.
        with part.open("ab" if resumed else "wb", buffering=0) as file:
            while block := response.read1(_BLOCK):
                file.write(block)
            received = file.tell()
    return received if total is None else total


def _notes(target: Path) -> Path:
    """Return the file that says of which content a part is."""
    return target.with_name(f"{target.name}.part.json")


def _read_notes(notes: Path) -> dict[str, str]:
    try:
        content = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _copy(source: Path, target: Path, needs: float) -> None:
    if not source.is_file():
        raise DataError(f"the mirror lacks {source}; put the file there, or leave --mirror out")
    check_space(target.parent, needs * source.stat().st_size)
    part = target.with_name(f"{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)


def _fetch_from_hub(remote: Remote, target: Path, needs: float) -> None:
    hub = hub_package()
    try:
        url = hub.hf_hub_url(remote.repository, remote.place, repo_type="dataset")
        check_space(target.parent, needs * (hub.get_hf_file_metadata(url).size or 0))
        folder = target.parents[remote.place.count("/")]
        hub.hf_hub_download(remote.repository, remote.place, repo_type="dataset", local_dir=folder)
    except DataError:
        raise
    except Exception as error:  # the hub's library raises those of its HTTP library too
        raise hub_error(remote.origin, error) from error


def check_repository(files: Sequence[Remote], folder: Path) -> None:
    """Raise DataError unless all of these files of one repository fit on the disk of `folder` together."""
    if not files:
        return
    try:
        paths = [file.place for file in files]
        found = hub_package().HfApi().get_paths_info(files[0].repository, paths, repo_type="dataset")
    except DataError:
        raise
    except Exception as error:  # the hub's library raises those of its HTTP library too
        raise hub_error(files[0].origin, error) from error
    check_space(folder, sum(file.size or 0 for file in found))


def hub_package() -> object:
    """Return the library of the Hugging Face hub; raises DataError where it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise DataError(
            "data sets on the Hugging Face hub need its library; run pip install 'flare_jax[download]', or give "
            "--mirror"
        ) from error
    return huggingface_hub


def hub_error(origin: str, error: Exception) -> DataError:
    """Return the sentence about what the hub's library raised."""
    reason = brief(error)
    return DataError(f"{origin} could not be fetched ({reason}); {_AGAIN}, or give --mirror")


def is_address(mirror: str) -> bool:
    """Return whether a mirror is an address that can be fetched from, and no folder."""
    return urllib.parse.urlsplit(mirror).scheme in ("http", "https")
