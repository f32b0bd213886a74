"""NASA-CRM: pressure and friction on the surface of an airliner with deflected control surfaces, 454 404 nodes.

Two HDF5 files, of 105 samples that train and 44 that test, with a group per sample in the order of their names. A group
has arrays [N] of coordinates, normals, the pressure coefficient and three components of the friction coefficient, and
six conditions of the flow as attributes. Inputs are the coordinates, scaled to the unit cube, unit normals and the
standardised conditions, the same at every node; targets the four coefficients. Statistics are those of the samples that
train (of the published set: of all of them).
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from data_pipeline.custom.sample import Field, Fields
from data_pipeline.custom.scaling import target_normalizer, target_scales
from data_pipeline.dataset import Channels, PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples
from data_pipeline.hdf5 import arrays, groups, open_hdf5, read_array
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import MANY_SUPERNODES, DatasetRecord
from data_pipeline.streaming.moments import Moments
from data_pipeline.surface import Surface

FOLDER = Path("NASA-CRM")
TRAIN, TEST = "trainingData_NASA-CRM.h5", "testData_NASA-CRM.h5"
N_TRAIN, N_TEST, POINTS = 105, 44, 454_404

CONDITIONS = ("Mach", "AlphaMean", "aileronInboard", "aileronOutboard", "htp", "elevator")
COORDINATES, NORMALS = (tuple(f"{kind}{axis}" for axis in "XYZ") for kind in ("Coordinate", "Normal"))
TARGETS = ("PressureCoefficient", "cfx", "cfy", "cfz")
_FIELDS = {"cp": 1, "cf": 3}
_INPUTS = {"normals": 3, **dict.fromkeys(CONDITIONS, 1)}
_OURS = Fields("points", tuple(map(Field, _INPUTS)), tuple(map(Field, _FIELDS)), True)


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the first samples of both files; raises DataError."""
    folder = data_dir / FOLDER
    read = {name: _read(folder / name, count, f"data.n_{split}") for name, count, split in (
        (TRAIN, n_train, "train"), (TEST, n_test, "test"),
    )}  # fmt: skip
    (names, x, y), (test_names, test_x, test_y) = read[TRAIN], read[TEST]
    if test_x.shape[1] != x.shape[1]:
        raise DataError(
            f"{folder / TEST} has {test_x.shape[1]} nodes per sample, but {TRAIN} has {x.shape[1]}; check the files"
        )
    inputs = _input_normalizer(x)
    moments = Moments.merge(Moments.of(sample) for sample in y)
    scales = target_scales(moments, _FIELDS)
    centred = Normalizer(moments.mean, scales)
    for samples, scaling in ((x, inputs), (test_x, inputs), (y, centred), (test_y, centred)):
        for sample in samples:  # one at a time, for each is made float64
            sample[:] = scaling.encode(sample)
    return PDEDataset(
        name="nasa_crm",
        train=Split(x, y),
        tests={"test": Split(test_x, test_y)},
        x_normalizer=inputs,
        y_normalizer=target_normalizer(moments, scales),
        source=Source.of(folder, samples={"train": names, "test": test_names}),
        target_name="pressure coefficient",
        space_dim=3,
        channels=Channels((0, 1, 2), _INPUTS, _FIELDS, scales, (_OURS,)),
        sample_names={"train": names, "test": test_names},
        offset=moments.mean / scales,
        spread_fields=_FIELDS,
        surface=Surface(*_FIELDS),
    )


def _input_normalizer(x: Float[np.ndarray, "S N C"]) -> Normalizer:
    """Return the map of coordinates to the unit cube and of conditions to mean 0 and deviation 1 over the samples."""
    space, count = len(COORDINATES), len(CONDITIONS)
    low, high = (function(x[..., :space], axis=(0, 1)) for function in (np.min, np.max))
    conditions = x[:, 0, -count:].astype(np.float64)
    spread = conditions.std(axis=0)
    mean = np.concatenate([low, np.zeros(space), conditions.mean(axis=0)])
    return Normalizer(mean, np.concatenate([_or_one(high - low), np.ones(space), _or_one(spread)]))


def _or_one(scale: np.ndarray) -> np.ndarray:
    return np.where(scale > 0, scale, 1.0)


def _read(path: Path, count: int, option: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return names, inputs and targets, in the units of the file, of the first `count` samples."""
    with open_hdf5(path) as file:
        samples = groups(file)
        names = sorted(samples)
        chosen = names[first_samples(len(names), count, option, str(path))]
        points = _arrays(samples[chosen[0]], COORDINATES[:1], path, None).shape[0]
        # Filled sample by sample: a list of all beside their stack would double the memory.
        x = np.empty((count, points, 2 * len(COORDINATES) + len(CONDITIONS)), np.float32)
        y = np.empty((count, points, len(TARGETS)), np.float32)
        for row, name in enumerate(chosen):
            group = samples[name]
            normals = _arrays(group, NORMALS, path, points)
            x[row, :, :3] = _arrays(group, COORDINATES, path, points)
            x[row, :, 3:6] = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-8)
            x[row, :, 6:] = _conditions(group, path)
            y[row] = _arrays(group, TARGETS, path, points)
    for what, values in (("inputs", x), ("targets", y)):
        if not np.isfinite(values).all():
            raise DataError(f"{path} has {what} that are not finite; fetch or write it again")
    return chosen, x, y


def _arrays(group: h5py.Group, names: Sequence[str], path: Path, points: int | None) -> Float[np.ndarray, "N C"]:
    known = arrays(group)
    for name in names:
        if name not in known:
            raise DataError(f"{path} has no array {name} in {group.name}; fetch or write it again")
    columns = [read_array(known[name]) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column.ndim != 1 or len(column) != (points or len(column)):
            raise DataError(
                f"{path} has {name} of shape {column.shape} in {group.name} where ({points or 'N'},) is expected; "
                "fetch or write it again"
            )
    return np.stack(columns, axis=-1)


def _conditions(group: h5py.Group, path: Path) -> list[float]:
    missing = [name for name in CONDITIONS if name not in group.attrs]
    if missing:
        raise DataError(f"{path} has no attribute {missing[0]} at {group.name}; fetch or write it again")
    values = [np.asarray(group.attrs[name]) for name in CONDITIONS]
    for name, value in zip(CONDITIONS, values, strict=True):
        if value.size != 1 or value.dtype.kind not in "fiu":
            raise DataError(f"{path} has {name} at {group.name} that is no single number; fetch or write it again")
    return [float(value.reshape(())) for value in values]


RECORD = DatasetRecord(
    name="nasa_crm",
    folder=FOLDER,
    files=(TRAIN, TEST),
    download="the publishers of the NASA-CRM surfaces with deflected control surfaces, on which Transolver-3 was "
    f"compared ({TRAIN} and {TEST})",
    load=load,
    n_train=N_TRAIN,
    n_test=N_TEST,
    generator="nasa_crm",
    stand_in=True,
    num_generate=N_TRAIN + N_TEST,
    points=POINTS,
    c_in=12,
    c_out=4,
    recipe={"all": {"batch_size": 1, "weight_decay": 5e-2, "pct_start": 0.05, "div_factor": 1e3}},
    model={"upt": MANY_SUPERNODES, "flarepp": {"num_blocks": 8}},
    like="drivaerml_40k",
    smoke={
        "data": {"n_train": 12, "n_test": 3, "num_generate": 17, "points_per_step": 1024},
        "train": {"epochs": 20, "batch_size": 1},
    },
)
