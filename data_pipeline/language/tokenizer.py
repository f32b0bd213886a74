"""Tokenizers: bytes as they are, or byte-pair encoding by the package `tokenizers`, trained on the training text."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from data_pipeline.errors import DataError
from runtime.files import write_text
from runtime.words import brief

NAMES = ("bytes", "bpe")
# Token that stands between documents, in both.
SEPARATOR = 0
_FILE = "tokenizer.json"


class Tokenizer(Protocol):
    """Text to token numbers and back; number 0 separates documents."""

    name: str
    vocab_size: int

    def encode(self, text: bytes) -> Int[np.ndarray, " T"]:
        """Return the tokens of a text."""

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of tokens; they may end within a character."""

    def token_bytes(self) -> Int[np.ndarray, " V"]:
        """Return how many bytes of text every token stands for."""

    def save(self, folder: Path) -> None:
        """Keep what is needed to make the tokenizer again."""


class ByteTokenizer:
    """Every byte is a token."""

    name, vocab_size = "bytes", 256

    def encode(self, text: bytes) -> Int[np.ndarray, " T"]:
        """Return the bytes."""
        return np.frombuffer(text, np.uint8)

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the bytes, without separators."""
        return bytes(i for i in ids if i != SEPARATOR)

    def token_bytes(self) -> Int[np.ndarray, " V"]:
        """Return 1 for every byte but the separator."""
        return np.arange(256).astype(bool).astype(np.int32)

    def save(self, folder: Path) -> None:
        """Do nothing: there is nothing to keep."""


class BytePairTokenizer:
    """Byte-level byte-pair encoding without a normaliser, `model` a tokenizer of the package `tokenizers`."""

    name = "bpe"

    def __init__(self, model: Any):
        # A text that spells the name of the separator has none there.
        model.encode_special_tokens = True
        self._model = model
        self.vocab_size = model.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[bytes], vocab_size: int) -> "BytePairTokenizer":
        """Return the tokenizer of `vocab_size` tokens whose pairs are the commonest of the texts."""
        library = _library()
        model = library.Tokenizer(library.models.BPE())
        model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=["<|end|>"],
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        # Lines, so that what the library counts at a time stays small.
        model.train_from_iterator((line for text in texts for line in text.decode().splitlines(True)), trainer)
        return cls(model)

    @classmethod
    def load(cls, folder: Path) -> "BytePairTokenizer":
        """Return the tokenizer that `save` kept in a folder; raises DataError where there is none, or it is damaged."""
        path = folder / _FILE
        if not path.is_file():
            raise DataError(f"{path} is missing, without which tokens mean nothing; prepare the text again")
        try:
            return cls(_library().Tokenizer.from_file(str(path)))
        except DataError:
            raise
        except Exception as error:  # the library has no type of its own
            raise DataError(
                f"{path} is no tokenizer ({brief(error)}), without which tokens mean nothing; prepare the text again"
            ) from error

    def encode(self, text: bytes) -> Int[np.ndarray, " T"]:
        """Return the tokens of a text, line by line."""
        lines = text.decode().splitlines(True)
        found = self._model.encode_batch(lines, add_special_tokens=False)
        return np.concatenate([np.asarray(one.ids, np.uint16) for one in found] or [np.zeros(0, np.uint16)])

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of tokens, without separators."""
        table = _byte_of_character()
        names = (self._model.id_to_token(int(i)) for i in ids if i != SEPARATOR)
        return bytes(table[character] for name in names for character in name)

    def token_bytes(self) -> Int[np.ndarray, " V"]:
        """Return the bytes of every token."""
        lengths = [len(self._model.id_to_token(i)) for i in range(self.vocab_size)]
        return np.asarray([0, *lengths[1:]], np.int32)

    def save(self, folder: Path) -> None:
        """Write the library's JSON."""
        write_text(folder / _FILE, json.dumps(json.loads(self._model.to_str())))


def load_tokenizer(name: str, folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder of token files."""
    return ByteTokenizer() if name == "bytes" else BytePairTokenizer.load(folder)


def _byte_of_character() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for: printable ones are themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _library() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise DataError(
            "data.tokenizer='bpe' needs the package tokenizers, which is not installed; run pip install "
            "'flare_jax[text]', or set data.tokenizer=bytes"
        ) from error
    return tokenizers
