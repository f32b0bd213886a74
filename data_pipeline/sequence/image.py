"""Grey CIFAR-10 as a sequence of 1024 pixels, ten classes (Long Range Arena, arXiv 2011.04006, section 2.2.4).

Read from the Python batches of the original release, from an npz file, or from the `cifar10` set of
tensorflow-datasets. A token is a grey level; the last tenth of the training images is the validation split.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_pipeline.errors import DataError
from data_pipeline.numpy_files import open_npz
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit, narrow
from data_pipeline.sequence.layout import Layout, SequenceTask
from data_pipeline.sequence.pickles import pickle_layout
from data_pipeline.sequence.recipe import FULL_PRECISION, drop, flarepp, size, training
from data_pipeline.sequence.tensorflow_sets import read_tensorflow_set
from data_pipeline.sequence.unpickle import as_integers, read_pickle
from runtime.options import declare, option

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 1024
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
Images = tuple[np.ndarray, np.ndarray]


def to_grey(images: UInt8[np.ndarray, "S N 3"]) -> UInt8[np.ndarray, "S N"]:
    """Return the grey levels 0.299 R + 0.587 G + 0.114 B (ITU-R 601), rounded."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def read_batches(folder: Path, *, validation: float) -> SequenceDataset:
    """Load the Python batches: rows of 1024 red, then green, then blue values."""
    train = [_read_batch(folder / name) for name in _BATCHES]
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return _dataset((images, labels), _read_batch(folder / "test_batch"), validation)


def _read_batch(path: Path) -> Images:
    content = read_pickle(path, encoding="bytes")
    try:
        data, labels = content[b"data"], as_integers(content[b"labels"])
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise DataError(f"{path} holds no data and labels; check that it is a Python batch of CIFAR-10") from error
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (len(labels), 3 * PIXELS):
        found = f"{np.shape(data)} of {data.dtype}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(
            f"{path} has data {found} where uint8 ({len(labels)}, 3072) is expected, a row for each label; get the "
            "file again"
        )
    return data.reshape(-1, 3, PIXELS).transpose(0, 2, 1), labels


def read_npz(folder: Path, *, validation: float) -> SequenceDataset:
    """Load cifar10.npz with x_train [S, 32, 32, 3], y_train [S], x_test and y_test."""
    path, names = folder / "cifar10.npz", ("x_train", "y_train", "x_test", "y_test")
    with open_npz(path) as archive:
        if missing := sorted(set(names) - set(archive.files)):
            raise DataError(f"{path} has the arrays {sorted(archive.files)} but lacks {missing}; get the file again")
        arrays = {name: archive.read(name) for name in names}
    return _dataset(
        (_checked(arrays["x_train"], path), arrays["y_train"]),
        (_checked(arrays["x_test"], path), arrays["y_test"]),
        validation,
    )


def read_tfds(folder: Path, *, validation: float) -> SequenceDataset:
    """Load `cifar10` as tensorflow-datasets has prepared it in `folder`."""
    splits = {}
    for split in ("train", "test"):
        arrays = read_tensorflow_set("cifar10", split, folder.parent)
        splits[split] = (_checked(arrays["image"], folder), arrays["label"])
    return _dataset(splits["train"], splits["test"], validation)


def _checked(images: np.ndarray, where: Path) -> np.ndarray:
    if images.shape[1:] != (32, 32, 3) or images.dtype != np.uint8:
        raise DataError(f"{where} has images {images.shape} of {images.dtype}; uint8 (any, 32, 32, 3) is expected")
    return images.reshape(-1, PIXELS, 3)


def _dataset(train: Images, test: Images, validation: float) -> SequenceDataset:
    if not 0 <= validation < 1:
        raise DataError(f"data.validation={validation} must lie in [0, 1): the share of training images held out")
    whole, held_out = _split(*train), round(len(train[1]) * validation)
    tests = {"test": _split(*test)}
    if held_out:
        first = len(whole) - held_out
        rest = TokenSplit(whole.input_ids[first:], whole.labels[first:], whole.lengths[first:])
        tests, whole = {"validation": rest, **tests}, whole.first(first)
    return SequenceDataset(
        name="image", train=whole, tests=tests, vocab_size=256, num_labels=10, max_length=PIXELS, label_names=CLASSES
    )


def _split(images: np.ndarray, labels: np.ndarray) -> TokenSplit:
    labels = narrow(np.asarray(labels, np.int64).reshape(-1))
    return TokenSplit(to_grey(images), labels, np.full(len(labels), PIXELS, np.int32))


TASK = SequenceTask(
    name="image",
    layouts=(
        pickle_layout("image"),
        Layout("cifar-10-batches-py", (*_BATCHES, "test_batch"), read_batches),
        Layout("cifar10", ("cifar10.npz",), read_npz),
        Layout("cifar10", ("3.*/dataset_info.json",), read_tfds),
    ),
    download="the CIFAR-10 release (cifar-10-python.tar.gz, to be unpacked there)",
    generator="image",
    generated=pickle_layout("image", folder="stand_in/image"),
    stand_in=True,
    mlp_head=True,
    options=declare(
        validation=option(0.1, help="share of the training set that is kept for validation", minimum=0, below=1)
    ),
    recipe={
        "all": {**training(32, 1e-3, 5e-2, steps=20_000), **size(3, 64, 4)},
        **{name: {"model.mlp_ratio": 2.0} for name in ("transformer", "linear", "linformer")},
        "performer": {"model.mlp_ratio": 2.0, "model.num_heads": 8, **drop(0.1, "attn", "proj")},
        # The original also sets the dropout of attention weights for multilinear, which has none.
        "multilinear": {"model.num_heads": 8, **drop(0.1, "proj")},
        "flare": {
            "model.num_heads": 8,
            "model.num_latents": 256,
            "model.num_layers_kv_proj": 2,
            "model.num_layers_ffn": 1,
        },
        "flarepp": {
            **flarepp(192, 1.5e-3, 6e-2, 2.0),
            **drop(0.08, "emb", "cls", "attn", "proj"),
            **FULL_PRECISION,
        },
    },
)
