"""Reading a corpus: documents of a file or a folder, cleaned, and which of them train, validate and test."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.files import chosen_files

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Document:
    """A document: its name within the corpus, its cleaned text in UTF-8, and the SHA-256 of its file."""

    name: str
    text: bytes
    sha256: str


def read_documents(path: Path, pattern: str) -> list[Document]:
    """Return the documents of a file, or of the files of a folder and its subfolders whose names fit `pattern`.

    Sorted by name; hidden files are left out. A byte order mark is dropped, line ends become those of Unix. Raises
    DataError where there is nothing to read, and for a file that is not text in UTF-8 without the byte 0.
    """
    if not path.exists():
        raise DataError(f"data.path={path} does not exist; name a text file or a folder of them")
    if path.is_file():
        return [_read(path, path.name)]
    found = chosen_files(path, pattern, nested=True)
    names = sorted(str(file.relative_to(path)) for file in found if file.is_file())
    if not names:
        raise DataError(f"data.path={path} holds no file that fits data.files={pattern!r}; change the pattern")
    return [_read(path / name, name) for name in names]


def _read(path: Path, name: str) -> Document:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8 (byte {error.start}); convert it, or leave it out by data.files"
        ) from error
    if "\0" in text:
        raise DataError(f"{path} holds the byte 0, which separates documents; leave it out by data.files")
    cleaned = text.replace("\r\n", "\n").encode()
    return Document(name, cleaned, hashlib.sha256(content).hexdigest())


def split_documents(
    documents: Sequence[Document], val: str, test: str, val_share: float, test_share: float
) -> dict[str, list[Document]]:
    """Return the documents of each split that has any.

    `val` and `test` are patterns of names, several by commas. Where both are empty the last `test_share` of the text,
    in whole documents if there are several, at least one, is the test, and `val_share` before it validates. Raises
    DataError where a pattern fits nothing, and for a split that is wanted and empty.
    """
    if not any(document.text for document in documents):
        raise DataError("the text is empty; name files that hold some by data.path or data.files")
    if val or test:
        chosen = _by_name(documents, {"test": test, "val": val})
    elif len(documents) == 1:
        chosen = _by_position(documents[0], val_share, test_share)
    else:
        chosen = _by_share(documents, val_share, test_share)
    whole = f" (documents, {len(documents)} here, are not cut)" if len(documents) > 1 else ""
    if val or test:
        options = {"train": "data.val and data.test", "test": "data.test"}
    else:
        options = {"train": "data.val_share and data.test_share", "test": "data.test or data.test_share"}
        if val_share:
            options["val"] = "data.val or data.val_share"
    for name, option in options.items():
        if not any(document.text for document in chosen[name]):
            raise DataError(f"the {name} split of the text is empty{whole}; change {option}")
    return {name: chosen[name] for name in SPLITS if chosen[name]}


def _by_name(documents: Sequence[Document], patterns: dict[str, str]) -> dict[str, list[Document]]:
    chosen: dict[str, list[Document]] = {name: [] for name in SPLITS}
    wanted = {name: [part for part in text.split(",") if part] for name, text in patterns.items()}
    for name, parts in wanted.items():
        for part in parts:
            if not any(fnmatch(document.name, part) for document in documents):
                raise DataError(f"data.{name} has {part!r}, which fits no document, such as {documents[0].name!r}")
    for document in documents:
        found = next((name for name, parts in wanted.items() if any(fnmatch(document.name, p) for p in parts)), "train")
        chosen[found].append(document)
    return chosen


def _by_position(document: Document, val_share: float, test_share: float) -> dict[str, list[Document]]:
    """Cut one document into its beginning, which trains, and its end, between characters."""
    ends = _bounds(len(document.text), val_share, test_share)
    pieces, start = {}, 0
    for name, end in zip(SPLITS, ends, strict=True):
        while end < len(document.text) and document.text[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        piece = document.text[start:end]
        pieces[name] = [Document(f"{document.name}:{name}", piece, document.sha256)] if piece else []
        start = end
    return pieces


def _by_share(documents: Sequence[Document], val_share: float, test_share: float) -> dict[str, list[Document]]:
    """Cut between the documents nearest to the shares; a split that is wanted has one, if most of the text trains."""
    sizes = [len(document.text) for document in documents]
    ends = _bounds(sum(sizes), val_share, test_share)
    starts = itertools.accumulate(sizes, initial=0)
    middles = [start + size // 2 for start, size in zip(starts, sizes, strict=False)]
    val, test = (sum(middle < end for middle in middles) for end in ends[:2])
    last = min(test, len(sizes) - 1) if test_share else test
    first = min(val, last - 1) if val_share else min(val, last)
    if (first, last) == (val, test) or 2 * sum(sizes[:first]) > sum(sizes):
        val, test = first, last
    return {"train": [*documents[:val]], "val": [*documents[val:test]], "test": [*documents[test:]]}


def _bounds(size: int, val_share: float, test_share: float) -> tuple[int, int, int]:
    train = int(size * (1 - val_share - test_share))
    return train, int(size * (1 - test_share)) if val_share else train, size
