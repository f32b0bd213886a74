"""Token files: a corpus encoded once, kept beside its hashes, memory-mapped, and cut into rows."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from data_pipeline.dataset import Source
from data_pipeline.errors import DataError
from data_pipeline.language.corpus import SPLITS, Document, read_documents, split_documents
from data_pipeline.language.tokenizer import SEPARATOR, BytePairTokenizer, ByteTokenizer, Tokenizer, load_tokenizer
from runtime.files import file_digest
from runtime.json_files import read_object, write_json
from runtime.locks import locked

_META = "meta.json"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TextOptions:
    """Where a text lies, how it is split, and how it becomes tokens."""

    path: Path
    files: str = "*.txt"
    val: str = ""
    test: str = ""
    val_share: float = 0.0
    test_share: float = 0.1
    tokenizer: str = "bytes"
    vocab_size: int = 16_384


@dataclass(frozen=True)
class TokenFiles:
    """A corpus as tokens: its tokenizer, and the memory-mapped tokens of each split."""

    folder: Path
    tokenizer: Tokenizer
    splits: dict[str, Int[np.ndarray, " T"]]
    meta: dict[str, Any]

    @property
    def source(self) -> Source:
        """Where the text came from."""
        detail = {name: self.meta[name] for name in ("tokenizer", "documents", "bytes", "tokens", "sha256")}
        return Source("own files", self.meta["path"], detail)

    def fingerprint(self) -> str:
        """Return a hash of all tokens."""
        return hashlib.sha256(json.dumps(self.meta["sha256"], sort_keys=True).encode()).hexdigest()[:16]


def prepare(options: TextOptions, folder: Path, say: Callable[[str], None] = print) -> TokenFiles:
    """Return the token files of a text below `folder`, encoded now unless they are there.

    `train.bin` and the others hold the tokens of all documents with a separator, 0, after each; 8 bits for bytes,
    else 16. `meta.json` names documents, hashes of inputs and outputs, and sizes. Raises DataError for a text that
    cannot be read or split, and for token files that are not those that were written.
    """
    documents = read_documents(options.path, options.files)
    if options.tokenizer == "bpe" and not 257 <= options.vocab_size <= 2**16:
        raise DataError(f"data.vocab_size={options.vocab_size} must lie in 257 to 65536; change it")
    splits = split_documents(documents, options.val, options.test, options.val_share, options.test_share)
    place = folder / "tokens" / _key(options, documents)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place, busy=None):  # while another process encodes it
        if not (place / _META).is_file():
            say(f"encoding {sum(len(d.text) for d in documents):,} bytes of {options.path} into {place}")
            _encode(options, splits, place)
    return open_token_files(place)


def open_token_files(folder: Path) -> TokenFiles:
    """Return the token files of a folder; raises DataError where they are not those that were written."""
    if not (folder / _META).is_file():
        raise DataError(f"{folder} holds no {_META}, so there are no token files in it; prepare the text again")
    meta = read_object(folder / _META)
    splits = {}
    for name, digest in meta["sha256"].items():
        path = folder / f"{name}.bin"
        if not path.is_file() or file_digest(path) != digest:
            raise DataError(
                f"{path} is not the file that was written there; delete the folder to encode the text again"
            )
        splits[name] = np.memmap(path, meta["dtype"], mode="r")
    return TokenFiles(folder, load_tokenizer(meta["tokenizer"], folder), splits, meta)


def _encode(options: TextOptions, splits: dict[str, list[Document]], place: Path) -> None:
    tokenizer: Tokenizer = ByteTokenizer()
    if options.tokenizer == "bpe":
        tokenizer = BytePairTokenizer.train((d.text for d in splits["train"]), options.vocab_size)
    tokenizer.save(place)
    dtype = "uint8" if tokenizer.vocab_size <= 256 else "uint16"
    meta: dict[str, Any] = {
        "path": str(options.path), "tokenizer": tokenizer.name, "vocab_size": tokenizer.vocab_size, "dtype": dtype,
        "inputs": {d.name: d.sha256 for chosen in splits.values() for d in chosen},
        "documents": {}, "bytes": {}, "tokens": {}, "sha256": {},
    }  # fmt: skip
    for name, documents in splits.items():
        path = place / f"{name}.bin"
        with path.open("wb") as file:
            for document in documents:
                file.write(tokenizer.encode(document.text).astype(dtype).tobytes())
                file.write(np.asarray([SEPARATOR], dtype).tobytes())
        meta["documents"][name] = len(documents)
        meta["bytes"][name] = sum(len(document.text) for document in documents)
        meta["tokens"][name] = path.stat().st_size // np.dtype(dtype).itemsize
        meta["sha256"][name] = file_digest(path)
    write_json(place / _META, meta)  # last: what has it is complete


def cut_rows(tokens: Int[np.ndarray, " T"], length: int, token_bytes: Int[np.ndarray, " V"], whole: bool) -> Arrays:
    """Return rows `tokens` [S, length], and the token `next` [S] after each; every token but the first is a label once.

    `labels` [S] counts those of a row and `bytes` [S] the bytes of text that they stand for. With `whole` the last row,
    if it is not full, is left out; else it is filled up with separators. Raises DataError where there
    are too few tokens for a row.
    """
    count = (len(tokens) - 1) // length if whole else -(-(len(tokens) - 1) // length)
    if count < 1:
        raise DataError(
            f"a split of the text has {len(tokens)} tokens, too few for a row of data.length={length} and "
            "the label of its last one; lower it"
        )
    padded = np.zeros(count * length + 1, tokens.dtype)
    used = min(len(tokens), len(padded))
    padded[:used] = tokens[:used]
    rows = np.lib.stride_tricks.sliding_window_view(padded, length + 1)[::length]
    labels = np.full(count, length, np.int32)
    labels[-1] = used - 1 - (count - 1) * length
    return {
        "tokens": np.ascontiguousarray(rows[:, :-1]),
        "next": np.ascontiguousarray(rows[:, -1]),
        "labels": labels,
        "bytes": token_bytes[rows[:, 1:]].sum(1, np.float32),
    }


def _key(options: TextOptions, documents: list[Document]) -> str:
    """Return a name for the encoding of these documents by these options."""
    choice = (options.val, options.test, options.val_share, options.test_share, options.tokenizer)
    vocabulary = options.vocab_size if options.tokenizer == "bpe" else 0
    text = json.dumps([*choice, vocabulary, *((d.name, d.sha256) for d in documents)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def selection(splits: dict[str, Any]) -> str:
    """Return the split that is evaluated while training: that for validation, where there is one."""
    return next(name for name in SPLITS[1:] if name in splits)
