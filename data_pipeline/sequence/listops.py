"""ListOps: nested lists of digits under MIN, MAX, MED and SM (sum modulo 10), with 500 to 2000 tokens.

Long Range Arena (arXiv 2011.04006, section 2.2.1) after Nangia & Bowman (arXiv 1804.06028). The public files are TSV
with the columns Source and Target; their parentheses, which binarise the tree, are dropped.
"""

from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.options import of_documents
from data_pipeline.sequence.cache import cached, stamp
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from data_pipeline.sequence.layout import Layout, SequenceTask
from data_pipeline.sequence.pickles import pickle_layout
from data_pipeline.sequence.recipe import drop, flarepp, size, training

# Token 0 is padding.
SYMBOLS = ("[MIN", "[MAX", "[MED", "[SM", "]", *map(str, range(10)))
IDS = {symbol: index + 1 for index, symbol in enumerate(SYMBOLS)}
SPLITS = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
FOLDER = "lra_release/listops-1000"


def tokenize(source: str) -> list[int]:
    """Return the tokens of an expression; raises KeyError for a symbol that is none."""
    return [IDS[symbol] for symbol in source.replace("(", " ").replace(")", " ").split()]


def evaluate(tokens: list[int]) -> int:
    """Return the value of a tokenised expression: the label."""
    stack: list[list[int]] = [[]]
    for token in tokens:
        symbol = SYMBOLS[token - 1]
        if symbol == "]":
            operator, *values = stack.pop()
            stack[-1].append(apply_operator(SYMBOLS[operator - 1], values))
        elif symbol.startswith("["):
            stack.append([token])
        else:
            stack[-1].append(int(symbol))
    return stack[0][0]


def apply_operator(operator: str, values: list[int]) -> int:
    """Return MIN, MAX, MED (rounded down) or SM (sum modulo 10) of digits."""
    if operator == "[MIN":
        return min(values)
    if operator == "[MAX":
        return max(values)
    return int(np.median(values)) if operator == "[MED" else sum(values) % 10


def read(folder: Path, *, max_length: int, mask_padding: bool) -> SequenceDataset:
    """Load the three TSV files; rows are padded to `max_length`, which no expression may exceed."""
    key = stamp([folder / file for file in SPLITS.values()], "listops 1", max_length)
    arrays = cached(folder / f"tokens_{max_length}.h5", key, lambda: _tokenize_files(folder, max_length))
    splits = {
        name: TokenSplit(*(arrays[f"{name}_{part}"] for part in ("input_ids", "labels", "lengths"))) for name in SPLITS
    }
    return SequenceDataset(
        name="listops",
        train=splits.pop("train"),
        tests=splits,
        vocab_size=len(SYMBOLS) + 1,
        num_labels=10,
        max_length=max_length,
        pad_id=0 if mask_padding else None,
    )


def _tokenize_files(folder: Path, max_length: int) -> dict[str, np.ndarray]:
    arrays = {}
    for name, file in SPLITS.items():
        parts = _tokenize_file(folder / file, max_length)
        arrays |= {f"{name}_{part}": value for part, value in parts.items()}
    return arrays


def _tokenize_file(path: Path, max_length: int) -> dict[str, np.ndarray]:
    # A file of another kind fails the checks of its content, not the decoder.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        if file.readline().split() != ["Source", "Target"]:
            raise DataError(f"{path} does not begin with the columns Source and Target; get the file again")
        lines = [(number, line) for number, line in enumerate(file.read().splitlines(), 2) if line.strip()]
    ids = np.zeros((len(lines), max_length), np.uint8)
    labels, lengths = np.zeros(len(lines), np.int8), np.zeros(len(lines), np.int32)
    for index, (number, line) in enumerate(lines):
        tokens, labels[index] = _parse(line, f"line {number} of {path}")
        if len(tokens) > max_length:
            raise DataError(
                f"line {number} of {path} has {len(tokens)} tokens; raise data.max_length={max_length} to that"
            )
        ids[index, : len(tokens)] = tokens
        lengths[index] = len(tokens)
    return {"input_ids": ids, "labels": labels, "lengths": lengths}


def _parse(line: str, where: str) -> tuple[list[int], int]:
    source, _, target = line.rpartition("\t")
    try:
        value = int(target)
        if not 0 <= value <= 9:
            raise ValueError(f"{value} is no digit")
        return tokenize(source), value
    except (KeyError, ValueError) as error:
        raise DataError(f"{where} is not a ListOps expression with its value ({error}); get the file again") from error


def _layout() -> Layout:
    return Layout(FOLDER, tuple(SPLITS.values()), read)


TASK = SequenceTask(
    name="listops",
    layouts=(pickle_layout("listops"), _layout()),
    download="the Long Range Arena release (lra_release.gz: listops-1000/basic_{train,val,test}.tsv)",
    generator="listops",
    generated=_layout(),
    options=of_documents(2000),
    recipe={
        "all": {**training(32, 5e-4, 1e-5, steps=10_000), **size(4, 128, 8)},
        "linformer": {"model.k": 128},
        "flarepp": {**flarepp(64, 2e-4, 3e-5), "model.rmsnorm": True, **drop(0.05, "attn")},
    },
    smoke={"data": {"num_generate": 120}},
)
