"""LPBF: distortion of parts printed by laser powder bed fusion (the additive-manufacturing set of arXiv 2508.12594).

One npz file per part in the folders train (1100) and test (290), with nodes `pos` [N, 3] in mm, hexahedra, temperature
`temp` [N, 1], displacement `disp` [N, 3] in mm and von Mises stress `vmstr` [N, 1] after the last layer; N is 736 to
47 542. The input is pos / (30, 30, 60) mm, the target the displacement along the build direction, in mm. Other fields,
von Mises stress / 1000 and temperature / 500, can be added by `data.fields`, but not one that is the same number in all
parts, as the temperature after cooling is. For models that send messages along edges these are the edges of the
hexahedra, beside them those from hanging nodes to the corners of the larger element that they lie on, which would
otherwise not see each other; they carry a mark.

Errors are those of the fields themselves. The original compares them after decoding with statistics of three random
numbers, which makes its relative error far smaller; see `original_relative_l2` among the losses.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_pipeline import options
from data_pipeline.additive.inputs import input_channels, input_normalizer, node_inputs
from data_pipeline.additive.messages import message_edges, read_elements
from data_pipeline.additive.samples import FIELDS, check_fields
from data_pipeline.clouds import choose_buckets, pad_clouds
from data_pipeline.custom.sample import Field, Fields
from data_pipeline.dataset import Channels, PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples, matching, read_npz
from data_pipeline.graphs import pad_edges
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import MANY_SUPERNODES, DatasetRecord
from runtime.options import declare, option

FOLDER = Path("LPBF_FLARE")
FILES = ("train", "test")
N_TRAIN, N_TEST = 1100, 290


def load(
    data_dir: Path,
    n_train: int,
    n_test: int,
    fields: str = "disp_z",
    buckets: int = 4,
    hanging_edges: bool = True,
    distance_features: bool = False,
    *,
    edges: bool = False,
) -> PDEDataset:
    """Load the first parts of both folders in the order of their names, with `edges` those of their meshes too.

    Raises DataError.
    """
    names = [name.strip() for name in fields.split(",")]
    check_fields(names, "data.fields")
    folder = data_dir / FOLDER
    parts = {"train": _parts(folder / "train", n_train), "test": _parts(folder / "test", n_test)}
    train = _read(parts["train"], names, distance_features)
    _check_varies([values for _, values in train], names, folder / "train")
    graphs = {name: _graphs(paths, hanging_edges) if edges else None for name, paths in parts.items()}
    counts = np.array([len(points) for points, _ in train])
    sizes = choose_buckets(counts, buckets)
    return PDEDataset(
        name="lpbf",
        train=_split(train, graphs["train"], sizes[-1]),
        tests={"test": _split(_read(parts["test"], names, distance_features), graphs["test"])},
        x_normalizer=input_normalizer(distance_features),
        y_normalizer=Normalizer.identity(len(names)),
        source=Source.of(folder),
        target_name=FIELDS[names[0]][-1],
        space_dim=3,
        bucket_sizes=sizes,
        channels=_channels(names, input_channels(distance_features)),
        sample_names={name: [path.stem for path in paths] for name, paths in parts.items()},
        mesh_of=lambda split, case: read_elements(parts[split][case]),
    )


def _channels(names: list[str], inputs: Mapping[str, int]) -> Channels:
    """Return the fields in the units of the files, which have them under their published names or under ours."""
    published = tuple(Field(FIELDS[name][0], FIELDS[name][1], FIELDS[name][1], name) for name in names)
    given = tuple(Field(name) for name in inputs)
    ours = tuple(Field(name) for name in names)
    return Channels(
        (0, 1, 2),
        inputs,
        dict.fromkeys(names, 1),
        np.float32([FIELDS[name][2] for name in names]),
        (Fields("pos", given, published, True, "elems"), Fields("points", given, ours, True)),
    )


def _parts(folder: Path, count: int) -> list[Path]:
    paths = matching(folder, "*.npz")
    if not paths:
        raise DataError(f"{folder} holds no npz files; download the data set again")
    return paths[first_samples(len(paths), count, f"data.n_{folder.name}", str(folder))]


def _read(paths: list[Path], names: list[str], distances: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return inputs and scaled fields of every part."""
    widths = {"pos": 3, **{FIELDS[name][0]: 3 if name == "disp_z" else 1 for name in names}}
    parts = []
    for path in paths:
        arrays = read_npz(path, {name: (None, width) for name, width in widths.items()})
        sizes = {name: len(value) for name, value in arrays.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(f"{path} has arrays of different lengths {sizes}; download it again")
        chosen = [arrays[FIELDS[name][0]][:, FIELDS[name][1]] / FIELDS[name][2] for name in names]
        elements = read_elements(path)[1] if distances else np.empty((0, 8), np.int64)
        inputs = node_inputs(arrays["pos"], elements, distances, str(path))
        parts.append((inputs, np.stack(chosen, axis=-1)))
    return parts


def _graphs(paths: list[Path], hanging: bool) -> np.ndarray:
    """Return the edges of every part, padded."""
    return pad_edges([message_edges(*read_elements(path), hanging, str(path)) for path in paths])


def _check_varies(parts: list[np.ndarray], names: list[str], where: Path) -> None:
    """Raise DataError for a field that is the same number in all parts: there is nothing to learn."""
    low, high = (np.stack([function(part, axis=0) for part in parts]) for function in (np.min, np.max))
    for column, name in enumerate(names):
        if low[:, column].min() == high[:, column].max():
            value = low[0, column] * FIELDS[name][2]
            raise DataError(
                f"data.fields names {name}, which is {value:g} everywhere in {where}, so that there is nothing to "
                "learn (parts are cooled down in the final state); leave it out"
            )


def _split(parts: list[tuple[np.ndarray, np.ndarray]], edges: np.ndarray | None, length: int = 0) -> Split:
    x, mask = pad_clouds([points for points, _ in parts], length)
    y, _ = pad_clouds([fields for _, fields in parts], x.shape[1])
    return Split(x, y, mask, edges=edges)


RECORD = DatasetRecord(
    name="lpbf",
    folder=FOLDER,
    files=FILES,
    download="the Hugging Face data set vedantpuri/LPBF_FLARE",
    load=load,
    n_train=N_TRAIN,
    n_test=N_TEST,
    options=options.of_parts("disp_z"),
    has_edges=True,
    generator="lpbf",
    num_generate=N_TRAIN + N_TEST,
    task_options=declare(
        original_metric=option(False, help="report the original's expression too"), symmetries=options.symmetries()
    ),
    points=47_542,
    c_in=3,
    c_out=1,
    recipe={"all": {"epochs": 250, "batch_size": 1, "weight_decay": 1e-4}},
    model={"upt": {**MANY_SUPERNODES, "space_dim": 3}},
    smoke={
        "data": {"n_train": 12, "n_test": 3, "num_generate": 15, "resolution": 25},
        "train": {"epochs": 10, "batch_size": 1},
    },
)
