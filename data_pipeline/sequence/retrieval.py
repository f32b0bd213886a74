"""Document retrieval on the ACL Anthology Network, byte by byte: does one of two papers cite the other?

Long Range Arena (arXiv 2011.04006, section 2.2.3). The public files are TSV without a header: label, two document
names, two texts. A sample is the first document, padded, followed by the second.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.options import of_documents
from data_pipeline.sequence.cache import cached, stamp
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from data_pipeline.sequence.layout import Layout, SequenceTask
from data_pipeline.sequence.pickles import pickle_layout
from data_pipeline.sequence.recipe import flarepp, size, training
from data_pipeline.sequence.tokens import BYTE_VOCABULARY, encode_bytes

SPLITS = {"train": "new_aan_pairs.train.tsv", "validation": "new_aan_pairs.eval.tsv", "test": "new_aan_pairs.test.tsv"}


def read(folder: Path, *, max_length: int, mask_padding: bool) -> SequenceDataset:
    """Load the three TSV files; both texts are cut at or padded to `max_length` bytes."""
    key = stamp([folder / file for file in SPLITS.values()], "retrieval 1", max_length)

    def build() -> dict[str, np.ndarray]:
        parts = {split: _tokenize_file(folder / file, max_length) for split, file in SPLITS.items()}
        return {f"{split}_{name}": array for split, arrays in parts.items() for name, array in arrays.items()}

    arrays = cached(folder / f"tokens_{max_length}.h5", key, build)
    splits = {
        split: TokenSplit(*(arrays[f"{split}_{part}"] for part in ("input_ids", "labels", "lengths")))
        for split in SPLITS
    }
    return SequenceDataset(
        name="retrieval",
        train=splits.pop("train"),
        tests=splits,
        vocab_size=BYTE_VOCABULARY,
        num_labels=2,
        max_length=max_length,
        documents=2,
        pad_id=0 if mask_padding else None,
        label_names=("unrelated", "cites"),
    )


def _tokenize_file(path: Path, max_length: int) -> dict[str, np.ndarray]:
    count = sum(1 for _ in _lines(path))
    labels = np.zeros(count, np.int8)
    # Row by row, for the texts of all pairs need not fit into memory at once.
    ids, lengths = encode_bytes(_texts(path, labels), 2 * count, max_length)
    return {
        "input_ids": ids.reshape(count, 2 * max_length),
        "labels": labels,
        "lengths": lengths.reshape(count, 2).sum(1).astype(np.int32),
    }


def _texts(path: Path, labels: np.ndarray) -> Iterator[bytes]:
    """Yield the two texts of every line in turn and write its label into `labels`."""
    for index, (number, line) in enumerate(_lines(path)):
        columns = line.split(b"\t")
        try:
            label, _, _, first, second = columns
            labels[index] = {0.0: 0, 1.0: 1}[float(label)]
        except (ValueError, KeyError) as error:
            raise DataError(
                f"line {number} of {path} has {len(columns)} columns and label {columns[0][:20]!r} where a "
                "label, two names and two texts are expected; get the file again"
            ) from error
        yield first
        yield second


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold anything with their numbers from 1, without the mark that some editors put first."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).rstrip(b"\r\n")
            if text.strip():
                yield number, text


TASK = SequenceTask(
    name="retrieval",
    layouts=(
        pickle_layout("retrieval"),
        Layout("lra_release/tsv_data", tuple(SPLITS.values()), read),
        Layout("lra_release/lra_release/tsv_data", tuple(SPLITS.values()), read),
    ),
    download="the Long Range Arena release (lra_release.gz: tsv_data/new_aan_pairs.{train,eval,test}.tsv)",
    generator="retrieval",
    generated=pickle_layout("retrieval", folder="stand_in/retrieval"),
    stand_in=True,
    documents=2,
    options=of_documents(4096),
    recipe={
        "all": {**training(32, 5e-4, 1e-4, steps=10_000), **size(4, 128, 4)},
        "linformer": {"optimizer.learning_rate": 4.2e-5, "optimizer.weight_decay": 1e-6, "model.k": 128},
        **{name: {"model.num_heads": 8} for name in ("flare", "performer", "multilinear")},
        "flarepp": flarepp(128, 5e-4, 1e-4),
    },
)
