"""The data of a run: rows of a text, or of associative recall, with what a model and a report need of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset import Source
from data_pipeline.language.recall import make_recall
from data_pipeline.language.token_files import TextOptions, cut_rows, prepare, selection

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LanguageData:
    """Rows that train, and of each other split; `tokenizer_folder` holds the tokenizer of a text."""

    train: Arrays
    tests: dict[str, Arrays]
    selection: str
    vocab_size: int
    source: Source
    fingerprint: str
    tokenizer: str = ""
    tokenizer_folder: Path | None = None

    @property
    def recall(self) -> bool:
        """Whether only answers have labels."""
        return "labels" in self.train and self.train["labels"].ndim == 2


def load_data(config: Any, say: Callable[[str], None]) -> LanguageData:
    """Load the text of a configuration, or make its rows of associative recall."""
    data = config.data
    if data.name == "recall":
        recall = make_recall(data.pairs, data.length, data.vocab_size, data.n_train, data.n_test, data.generate_seed)
        return LanguageData(
            recall.train, {"test": recall.test}, "test", data.vocab_size, recall.source, recall.fingerprint()
        )
    options = {name: data[name] for name in TextOptions.__dataclass_fields__ if name != "path"}
    files = prepare(TextOptions(Path(data.path), **options), Path(data.dir), say)
    sizes = files.tokenizer.token_bytes()
    rows = {name: cut_rows(tokens, data.length, sizes, name == "train") for name, tokens in files.splits.items()}
    train = _first(rows.pop("train"), data.n_train)
    tests = {name: _first(arrays, data.n_test) for name, arrays in rows.items()}
    return LanguageData(
        train, tests, selection(tests), files.tokenizer.vocab_size, files.source, files.fingerprint(),
        files.tokenizer.name, files.folder,
    )  # fmt: skip


def _first(arrays: Arrays, count: int) -> Arrays:
    return {name: value[: count or None] for name, value in arrays.items()}
