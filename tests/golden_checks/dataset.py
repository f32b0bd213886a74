"""Golden files of data sets: the exact output of the generators of the sequence tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from data_pipeline.sequence import match3, multi_token, relations, sudoku_augmentation
from tests.golden_checks.core import Comparison, largest_error

Arrays = Mapping[str, np.ndarray]
# Names of arguments of the original and ours; the number of samples has several.
_COUNTS = ("num_instances", "num_graphs", "num_samples", "num_sequences")
_RENAMED = {
    "seed": "seed",
    "min_seq_len": "min_length",
    "max_seq_len": "max_length",
    "min_len": "min_length",
    "max_len": "max_length",
    "min_length": "min_length",
    "max_length": "max_length",
    "min_nodes": "min_nodes",
    "max_nodes": "max_nodes",
    "min_n": "min_nodes",
    "max_n": "max_nodes",
    "p": "probability",
    "prob": "probability",
    "edge_prob": "probability",
    "edge_probability": "probability",
    "M": "modulus",
    "num_bins": "bins",
    "num_blocks": "num_blocks",
    "block_length": "block_length",
    "query_length": "query_length",
    "alphabet_size": "alphabet_size",
}
# Arguments of the original that change nothing.
_WITHOUT_EFFECT = ("n_colors", "num_colors")


def check(arrays: Arrays, config: Mapping[str, Any]) -> list[Comparison]:
    """Compare every array of the file with what our generator gives; all are integers and must be equal."""
    generator = config["generator"]
    if generator not in CHECKS:
        raise ValueError(f"there is no generator {generator!r}; known are {', '.join(CHECKS)}")
    results = CHECKS[generator](arrays, config)
    expected = {key.removeprefix("output/"): value for key, value in arrays.items() if key.startswith("output/")}
    return [
        Comparison(name, "output", largest_error(results[name], value) if name in results else float("inf"), 0.0)
        for name, value in expected.items()
    ]


def _arguments(config: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the number of samples and our arguments for the original's."""
    given = dict(config["kwargs"])
    count = next((given.pop(name) for name in _COUNTS if name in given), config.get("num_samples"))
    unknown = sorted(set(given) - set(_RENAMED) - set(_WITHOUT_EFFECT))
    if unknown or count is None:
        raise ValueError(f"arguments {unknown or 'without a number of samples'} of {config['generator']} are not known")
    return count, {_RENAMED[name]: value for name, value in given.items() if name in _RENAMED}


def _check_stream(stream: Callable[..., Iterator[relations.Sample]]) -> Callable[..., dict[str, np.ndarray]]:
    def results(arrays: Arrays, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
        count, arguments = _arguments(config)
        samples = list(islice(stream(**arguments), count))
        return _flat([sample.input_ids for sample in samples], [sample.labels for sample in samples])

    return results


def _match3(arrays: Arrays, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    count, arguments = _arguments(config)
    samples = match3.match3(count, **arguments)
    return _flat([tokens for tokens, _, _ in samples], [labels for _, labels, _ in samples])


def _multi_token(arrays: Arrays, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    count, arguments = _arguments(config)
    samples = list(islice(multi_token.multi_token_association(**arguments), count))
    tokens = multi_token.vocabulary(arguments.get("alphabet_size", 26))
    # The original may know a symbol for padding besides, which no sample holds.
    if not tokens.items() <= config.get("token_to_id", tokens).items():
        raise ValueError("the tokens of the file are not ours")
    return {
        "input_ids": np.stack([ids for ids, _ in samples]),
        "labels": np.array([label for _, label in samples]),
    }


def _sudoku(arrays: Arrays, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(config["seed"] + sudoku_augmentation.SEED_OFFSETS[config["split"]])
    board = arrays["input/puzzle"], arrays["input/solution"]
    pairs = [sudoku_augmentation.augment(*board, rng) for _ in range(config["num_aug"])]
    puzzles, solutions = (np.stack(parts).reshape(len(pairs), -1) for parts in zip(*pairs, strict=True))
    return {"puzzles": puzzles, "solutions": solutions}


def _flat(inputs: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "input_ids": np.concatenate(inputs),
        "input_lengths": np.array([*map(len, inputs)]),
        "labels": np.concatenate(labels),
        "label_lengths": np.array([*map(len, labels)]),
    }


CHECKS: dict[str, Callable[[Arrays, Mapping[str, Any]], dict[str, np.ndarray]]] = {
    "FunctCompDataset": _check_stream(relations.function_composition),
    "BinaryRelationCompDataset": _check_stream(relations.binary_relation),
    "QuotientBinaryRelationCompDataset": _check_stream(relations.quotient_relation),
    "Match3Dataset": _match3,
    "mta": _multi_token,
    "sudoku_augmentation": _sudoku,
}
