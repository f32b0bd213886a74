"""Artificial tasks of the shape of text, retrieval and image, to try a program without downloads; nothing more.

Written as preprocessed pickles: text marks reviews by a few words, retrieval asks whether two texts share a topic, an
image shows one of ten gratings. Every sample depends on the seed and its index alone.
"""

import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator
from data_pipeline.generate.sequence.listops import split_sizes
from data_pipeline.sequence.tokens import encode_bytes

LENGTH = 1024
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "wo", "xu", "za")
_WORDS = {0: ("gloom", "dull", "waste"), 1: ("bright", "charm", "grand")}
Sample = Callable[[np.random.Generator], tuple[list[np.ndarray], int]]


def text(rng: np.random.Generator) -> tuple[list[np.ndarray], int]:
    """Return the bytes of a nonsense review with words of its label strewn in."""
    label = int(rng.integers(2))
    return [_bytes(_babble(rng, _WORDS[label]))], label


def retrieval(rng: np.random.Generator) -> tuple[list[np.ndarray], int]:
    """Return two nonsense documents that are, or are not, about the same of two topics."""
    first, second = (int(value) for value in rng.integers(2, size=2))
    return [_bytes(_babble(rng, _WORDS[topic])) for topic in (first, second)], int(first == second)


def image(rng: np.random.Generator) -> tuple[list[np.ndarray], int]:
    """Return 32² grey levels of a noisy grating at one of ten angles."""
    label = int(rng.integers(10))
    angle, phase = np.pi * label / 10, rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:32, 0:32] / 32
    wave = np.sin(20 * (x * np.cos(angle) + y * np.sin(angle)) + phase) + 0.3 * rng.standard_normal((32, 32))
    return [np.clip(127.5 + 90 * wave, 0, 255).astype(np.uint8).reshape(-1)], label


def _babble(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    count = int(rng.integers(40, 120))
    babble = ["".join(rng.choice(_SYLLABLES, int(rng.integers(1, 4)))) for _ in range(count)]
    return " ".join(str(rng.choice(words)) if rng.random() < 0.1 else word for word in [*babble, words[0]])


def _bytes(content: str) -> np.ndarray:
    return encode_bytes([content.encode()], 1, LENGTH)[0][0]


def _generator(name: str, sample: Sample) -> Generator:
    files = {split: f"lra-{name}.{file}.pickle" for split, file in
             (("train", "train"), ("validation", "dev"), ("test", "test"))}  # fmt: skip

    def solve(seed: int, indices: range) -> dict[str, np.ndarray]:
        documents, labels = zip(*(sample(np.random.default_rng([seed, index])) for index in indices), strict=True)
        arrays = {f"input_ids_{i}": np.stack(rows) for i, rows in enumerate(zip(*documents, strict=True))}
        return {**arrays, "label": np.array(labels, np.int64)}

    def export(arrays: Samples, folder: Path) -> None:
        rows = arrays.rows()
        for split, size in split_sizes(arrays.num).items():
            (folder / files[split]).write_bytes(pickle.dumps(list(islice(rows, size))))

    return Generator(
        name=name,
        folder=f"stand_in/{name}",
        files=tuple(files.values()),
        num=2000,
        chunk=500,
        solver=f"artificial stand-in of the shape of {name}",
        version=1,
        details={"meaning": "for trying programs only; no result on it says anything about the public task"},
        solve=solve,
        export=export,
    )


GENERATORS = {
    name: _generator(name, sample) for name, sample in (("text", text), ("retrieval", retrieval), ("image", image))
}
