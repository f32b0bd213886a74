"""Pathfinder: do the two discs lie on one dashed path? Images of 32² or 128² pixels (Path-X) as sequences of pixels.

Long Range Arena (arXiv 2011.04006, section 2.2.5) after Linsley et al. (arXiv 1805.08315). The public release has
PNG images below imgs/ and, below metadata/, one text file for each of their folders, whose lines begin with folder,
file, number and label. The first 80 % of the images train, the next tenth validates and the last is the test.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipeline.errors import DataError
from data_pipeline.files import matching
from data_pipeline.sequence.cache import cached, stamp
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from data_pipeline.sequence.layout import Layout, SequenceTask
from data_pipeline.sequence.pickles import pickle_layout
from data_pipeline.sequence.recipe import AVERAGED, FULL_PRECISION, drop, flarepp, size, training
from runtime.options import declare, option

LEVELS = ("curv_contour_length_14", "curv_contour_length_9", "curv_baseline")
Reader = Callable[..., SequenceDataset]


def reader(side: int) -> Reader:
    """Return the reader of images of side × side pixels."""

    def read(folder: Path) -> SequenceDataset:
        lists = sorted(matching(folder / "metadata", "*.npy"), key=_number)
        key = stamp(lists, "pathfinder 2", side)
        arrays = cached(folder / "tokens.h5", key, lambda: _read_images(folder, lists, side))
        return _dataset(arrays["input_ids"], arrays["labels"], side)

    return read


def _number(path: Path) -> tuple[int, str]:
    return (int(path.stem), "") if path.stem.isdigit() else (0, path.stem)


def _read_images(folder: Path, lists: list[Path], side: int) -> dict[str, np.ndarray]:
    ids, labels = [], []
    for path in lists:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines()):
            if not line.strip():
                continue
            file, label = _parse(line, folder, f"line {number + 1} of {path}")
            # The release holds an empty file or two among its hundred thousands.
            if file.exists() and file.stat().st_size == 0:
                continue
            ids.append(_read_image(file, side))
            labels.append(label)
    if len(ids) < 10:
        raise DataError(f"{folder} lists {len(ids)} readable images, too few for three splits; get the release again")
    return {"input_ids": np.stack(ids), "labels": np.asarray(labels, np.int8)}


def _parse(line: str, folder: Path, where: str) -> tuple[Path, int]:
    columns = line.split()
    try:
        return folder / columns[0] / columns[1], int(columns[3])
    except (IndexError, ValueError) as error:
        raise DataError(f"{where} is not 'folder file number label …'; get the release again") from error


def _read_image(file: Path, side: int) -> np.ndarray:
    try:
        with Image.open(file) as image:
            pixels = _grey_levels(image)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{file} cannot be read as an image ({error}); get the release again") from error
    if pixels.shape != (side, side):
        raise DataError(f"{file} has {pixels.shape} pixels where ({side}, {side}) are expected; check data.name")
    return pixels.reshape(-1)


def _grey_levels(image: Image.Image) -> np.ndarray:
    """Return grey levels from 0 to 255; Pillow itself would cut those of 16 bits, where white is 65 535, at 255."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise OSError(f"its grey levels reach from {levels.min()} to {levels.max()}, which is no image of 16 bits")
        return ((levels + 128) // 257).astype(np.uint8)
    if image.mode == "F":
        raise OSError("its grey levels are floating-point numbers of unknown range")
    return np.asarray(image.convert("L"))


def _dataset(ids: np.ndarray, labels: np.ndarray, side: int) -> SequenceDataset:
    count = len(ids)
    bounds = {"train": (0, 8 * count // 10), "validation": (8 * count // 10, 9 * count // 10)}
    bounds["test"] = (9 * count // 10, count)
    splits = {
        name: TokenSplit(ids[first:last], labels[first:last], np.full(last - first, side * side, np.int32))
        for name, (first, last) in bounds.items()
    }
    return SequenceDataset(
        name=f"pathfinder{side}",
        train=splits.pop("train"),
        tests=splits,
        vocab_size=256,
        num_labels=2,
        max_length=side * side,
        label_names=("not connected", "connected"),
    )


_CONSTANT = {"schedule.name": "constant", **AVERAGED, "train.clip_norm": 1.0, "train.dtype": "bfloat16"}
_RECIPE = {
    "all": {**training(32, 5e-4, 1e-4, epochs=200), **size(4, 128, 8), "train.clip_norm": 0.5, **FULL_PRECISION},
    "transformer": {
        **training(64, 6e-4, 1.5e-4, epochs=200),
        **_CONSTANT,
        **drop(0.05, "emb", "attn", "proj"),
        "model.mlp_ratio": 1.0,
        "model.rmsnorm": True,
    },
    "linear": {"model.mlp_ratio": 1.0, "model.rmsnorm": True, "model.kernel": "elu"},
    "linformer": {
        **training(64, 1e-3, 1e-4, epochs=200),
        **_CONSTANT,
        "model.mlp_ratio": 1.0,
        "model.rmsnorm": True,
    },
    "flare": {"optimizer.weight_decay": 5e-4, **drop(0.1, "emb", "attn", "proj")},
    "performer": {"optimizer.weight_decay": 5e-4, "model.mlp_ratio": 1.0, **drop(0.1, "attn", "proj")},
    "multilinear": {
        "optimizer.learning_rate": 1e-5,
        "optimizer.weight_decay": 1e-5,
        **drop(0.1, "emb", "proj"),
    },
    "flarepp": {**flarepp(128, 3e-4, 1e-4, 1.0), **drop(0.11, "emb", "cls", "attn", "proj"), **AVERAGED},
}
# Images of 128² pixels are sequences of 16 384 tokens: few of them, for few steps.
_SMOKE: dict[int, dict[str, dict[str, int]]] = {
    32: {"data": {"num_generate": 120}},
    128: {
        "data": {"num_generate": 40},
        "train": {"steps": 4, "batch_size": 2},
        "eval": {"batch_size": 2, "every": 4},
        "checkpoint": {"every": 4},
    },
}


def task(side: int) -> SequenceTask:
    """Return the task of one image size."""
    name = f"pathfinder{side}"
    folders = [f"{parent}{name}/{{level}}" for parent in ("lra_release/", "lra_release/lra_release/", "")]
    return SequenceTask(
        name=name,
        layouts=(
            pickle_layout(name, f"{name}-curv_contour_length_14"),
            *(Layout(folder, ("metadata/*.npy",), reader(side)) for folder in folders),
        ),
        download=f"the Long Range Arena release (lra_release.gz: {name}/curv_contour_length_14)",
        generator=name,
        generated=Layout(folders[0], ("metadata/*.npy",), reader(side)),
        mlp_head=True,
        options=declare(level=option(LEVELS[0], help="difficulty of the pictures", choices=LEVELS)),
        recipe=_RECIPE,
        smoke=_SMOKE[side],
    )


TASKS = (task(32), task(128))
