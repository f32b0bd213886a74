"""IMDb reviews byte by byte: is the review positive? (Long Range Arena, arXiv 2011.04006, section 2.2.2)

Read from the aclImdb folder of the original release, from parquet files with the columns text and label, or from the
`imdb_reviews` set of tensorflow-datasets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import matching
from data_pipeline.options import of_documents
from data_pipeline.sequence.cache import cached, stamp
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from data_pipeline.sequence.layout import Layout, SequenceTask
from data_pipeline.sequence.pickles import pickle_layout
from data_pipeline.sequence.recipe import drop, flarepp, size, training
from data_pipeline.sequence.tensorflow_sets import read_tensorflow_set
from data_pipeline.sequence.tokens import BYTE_VOCABULARY, encode_bytes

_LABELS = ("neg", "pos")
Texts = tuple[list[bytes], list[int]]


def read_acl_imdb(folder: Path, *, max_length: int, mask_padding: bool) -> SequenceDataset:
    """Load the folders train and test with their folders pos and neg of one review a file."""
    files = {split: _reviews(folder / split) for split in ("train", "test")}
    key = stamp((file for pairs in files.values() for file, _ in pairs), "text 1", max_length)

    def read_split(split: str) -> Texts:
        return [file.read_bytes() for file, _ in files[split]], [label for _, label in files[split]]

    return _dataset(folder / f"tokens_{max_length}.h5", key, read_split, max_length, mask_padding)


def _reviews(folder: Path) -> list[tuple[Path, int]]:
    """Return the files of a split with their labels."""
    return [(file, label) for label, name in enumerate(_LABELS) for file in matching(folder / name, "*.txt")]


def read_parquet(folder: Path, *, max_length: int, mask_padding: bool) -> SequenceDataset:
    """Load train-*.parquet and test-*.parquet with the columns text and label; needs pyarrow."""
    files = {split: matching(folder, f"{split}-*.parquet") for split in ("train", "test")}
    key = stamp((file for found in files.values() for file in found), "text parquet 1", max_length)

    def read_split(split: str) -> Texts:
        columns = [_read_columns(file) for file in files[split]]
        return [text for texts, _ in columns for text in texts], [label for _, labels in columns for label in labels]

    return _dataset(folder / f"tokens_{max_length}.h5", key, read_split, max_length, mask_padding)


def read_tfds(folder: Path, *, max_length: int, mask_padding: bool) -> SequenceDataset:
    """Load `imdb_reviews` as tensorflow-datasets has prepared it in `folder`."""

    def read_split(split: str) -> Texts:
        arrays = read_tensorflow_set("imdb_reviews/plain_text", split, folder.parent)
        return list(arrays["text"]), [int(label) for label in arrays["label"]]

    key = stamp(matching(folder, "plain_text/*/*"), "text tfds 1", max_length)
    return _dataset(folder / f"tokens_{max_length}.h5", key, read_split, max_length, mask_padding)


def _read_columns(file: Path) -> Texts:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"reading {file} needs pyarrow; run `pip install pyarrow` or unpack aclImdb beside its folder instead"
        ) from error
    try:
        table = pyarrow.parquet.read_table(file, columns=["text", "label"])
        return [text.encode() for text in table["text"].to_pylist()], table["label"].to_pylist()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{file} cannot be read as parquet with the columns text and label ({error}); get the file again"
        ) from error


def _dataset(cache: Path, key: str, read_split: Any, max_length: int, mask_padding: bool) -> SequenceDataset:
    def build() -> dict[str, np.ndarray]:
        arrays = {}
        for split in ("train", "test"):
            texts, labels = read_split(split)
            arrays |= _tokenize(split, texts, labels, max_length)
        return arrays

    arrays = cached(cache, key, build)
    splits = {
        split: TokenSplit(*(arrays[f"{split}_{part}"] for part in ("input_ids", "labels", "lengths")))
        for split in ("train", "test")
    }
    return SequenceDataset(
        name="text",
        train=splits["train"],
        tests={"test": splits["test"]},
        vocab_size=BYTE_VOCABULARY,
        num_labels=2,
        max_length=max_length,
        pad_id=0 if mask_padding else None,
        label_names=("negative", "positive"),
    )


def _tokenize(split: str, texts: Sequence[bytes], labels: Sequence[int], max_length: int) -> dict[str, np.ndarray]:
    ids, lengths = encode_bytes(texts, len(texts), max_length)
    return {
        f"{split}_input_ids": ids,
        f"{split}_labels": np.asarray(labels, np.int8),
        f"{split}_lengths": lengths,
    }


TASK = SequenceTask(
    name="text",
    layouts=(
        pickle_layout("text"),
        Layout("aclImdb", tuple(f"{s}/{c}/*.txt" for s in ("train", "test") for c in _LABELS), read_acl_imdb),
        Layout("imdb", ("train-*.parquet", "test-*.parquet"), read_parquet),
        Layout("imdb_reviews", ("plain_text/*/dataset_info.json",), read_tfds),
    ),
    download="the Large Movie Review Dataset (aclImdb_v1.tar.gz, to be unpacked there)",
    generator="text",
    generated=pickle_layout("text", folder="stand_in/text"),
    stand_in=True,
    mlp_head=True,
    options=of_documents(4096),
    recipe={
        "all": {
            **training(32, 1e-5, 1e-4, steps=20_000),
            **size(4, 128, 8),
            "model.pool": "cls",
            "model.pos_embed": "rope",
        },
        "linear": {"model.pos_embed": "abs", "model.kernel": "elu"},
        "linformer": {"optimizer.learning_rate": 5e-7, "optimizer.weight_decay": 5e-3, "model.k": 128},
        # The original's script left FLARE, performer and multilinear linformer's rate of 5e-7 by a variable it forgot.
        "flare": {"model.attn_scale": "sqrt"},
        "multilinear": {"model.pos_embed": "abs"},
        "flarepp": {
            **flarepp(128, 1.4e-5, 3e-4),
            **drop(0.08, "emb", "cls", "attn"),
            **drop(0.02, "proj"),
            "train.steps": 40_000,
            "schedule.pct_start": 0.2,
        },
    },
)
