"""Printed parts layer by layer: the fields after one group of layers, to be taken to the next (arXiv 2508.12594).

One npz file per part in LPBF_FLARE/series, in the format of `data_pipeline.additive.case`: T states on one mesh, 0 at
nodes that are not there yet. A node is there from the first step whose top it does not exceed; plate nodes, below 0 mm,
always are. Inputs are pos / (30, 30, 60) mm and the fields, which are displacement along the build direction / 1 mm,
von Mises stress / 1000 MPa and temperature / 500 °C; predicted are the increments to the next state.

Parts of one step are left out. Parts are split, never their steps: in the folders train and test where these are there,
else by a permutation of the sorted names, which the run records.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipeline import options
from data_pipeline.additive.case import SeriesCase, read_series
from data_pipeline.additive.inputs import input_channels, input_normalizer, node_inputs
from data_pipeline.additive.messages import message_edges
from data_pipeline.additive.published import SERIES
from data_pipeline.additive.samples import FIELDS, check_fields, scaled_fields
from data_pipeline.additive.series import TOLERANCE, active_nodes, fill_sources
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
N_TRAIN, N_TEST = 400, 100


def load(
    data_dir: Path,
    n_train: int,
    n_test: int,
    fields: str = "disp_z,vm,temp",
    buckets: int = 4,
    drop_plate: bool = False,
    split_seed: int = 0,
    hanging_edges: bool = True,
    distance_features: bool = False,
    *,
    edges: bool = False,
) -> PDEDataset:
    """Load the series of so many parts, with `edges` those of their meshes too; raises DataError."""
    folder = data_dir / FOLDER / SERIES
    chosen, left_out = _choose(folder, n_train, n_test, split_seed)
    cases = {split: [read_part(path, drop_plate) for path in paths] for split, paths in chosen.items()}
    samples = {name: [path.stem for path in paths] for name, paths in chosen.items()}
    notes = [f"{left_out} parts of one step are left out: they have no increment to learn"] if left_out else []
    return series_dataset(
        cases,
        fields,
        Source.of(data_dir / FOLDER, samples=samples, notes=notes),
        buckets=buckets,
        hanging_edges=hanging_edges if edges else None,
        distances=distance_features,
        mesh_of=lambda split, case: _mesh(read_part(chosen[split][case], drop_plate)),
    )


def series_dataset(
    cases: Mapping[str, Sequence[SeriesCase]],
    fields: str,
    source: Source,
    *,
    buckets: int = 1,
    hanging_edges: bool | None = None,
    distances: bool = False,
    mesh_of: Callable[[str, int], tuple[np.ndarray, np.ndarray]] | None = None,
) -> PDEDataset:
    """Return the data set of the series of the splits train and test.

    Parts have edges where `hanging_edges` is not None, those of hanging nodes where it is true. With `distances` the
    distance features are inputs. Raises DataError for unknown fields.
    """
    names = [name.strip() for name in fields.split(",")]
    check_fields(names, "data.fields")
    steps = max(len(case.zmax) for parts in cases.values() for case in parts)
    sizes = choose_buckets(np.array([len(case.pos) for case in cases["train"]]), buckets)

    def split(name: str, length: int = 0) -> Split:
        graphs = None
        if hanging_edges is not None:
            graphs = pad_edges([message_edges(one.pos, one.elems, hanging_edges, one.name) for one in cases[name]])
        inputs = [node_inputs(one.pos, one.elems, distances, one.name) for one in cases[name]]
        return _split(cases[name], inputs, names, steps, graphs, length)

    return PDEDataset(
        name="am_series",
        train=split("train", sizes[-1]),
        tests={"test": split("test")},
        x_normalizer=input_normalizer(distances),
        y_normalizer=Normalizer.identity(len(names)),
        source=source,
        target_name=FIELDS[names[0]][-1],
        kind="layer_series",
        space_dim=3,
        times=np.arange(steps, dtype=np.float32),
        bucket_sizes=sizes,
        channels=_channels(names, input_channels(distances)),
        sample_names={name: [case.name for case in parts] for name, parts in cases.items()},
        offset=np.zeros(len(names)),
        mesh_of=mesh_of,
    )


def _mesh(case: SeriesCase) -> tuple[np.ndarray, np.ndarray]:
    return case.pos, case.elems


def _channels(names: Sequence[str], inputs: Mapping[str, int]) -> Channels:
    """Return the fields in the units of the files."""
    published = tuple(Field(FIELDS[name][0], FIELDS[name][1], FIELDS[name][1], name) for name in names)
    scales = np.float32([FIELDS[name][2] for name in names])
    reads = Fields("pos", tuple(Field(name) for name in inputs), published, True, "elems")
    return Channels((0, 1, 2), inputs, dict.fromkeys(names, 1), scales, (reads,))


def _choose(folder: Path, n_train: int, n_test: int, seed: int) -> tuple[dict[str, list[Path]], int]:
    """Return the files of both splits in the order of their names, and how many parts of one step were left out."""
    if all((folder / split).is_dir() for split in ("train", "test")):
        counts, chosen, left_out = {"train": n_train, "test": n_test}, {}, 0
        for split, count in counts.items():
            paths, short = _growing(folder / split)
            where = f"{folder / split}, parts of one step left out,"
            chosen[split] = paths[first_samples(len(paths), count, f"data.n_{split}", where)]
            left_out += short
        return chosen, left_out
    paths, left_out = _growing(folder)
    if min(n_train, n_test) < 1 or len(paths) < n_train + n_test:
        raise DataError(
            f"data.n_train={n_train} and data.n_test={n_test}, but {folder} holds {len(paths)} parts of at least two "
            "steps; choose at least 1 each, and not more than there are"
        )
    order = np.random.default_rng(seed).permutation(len(paths))
    parts = {"test": order[:n_test], "train": order[n_test : n_test + n_train]}
    return {split: [paths[number] for number in np.sort(parts[split])] for split in ("train", "test")}, left_out


def _growing(folder: Path) -> tuple[list[Path], int]:
    """Return the parts of at least two steps, which have an increment to learn, and the number of the others."""
    paths = matching(folder, "*.npz")
    steps = [read_npz(path, {"zmax": (None,)})["zmax"].size for path in paths]
    return [path for path, count in zip(paths, steps, strict=True) if count > 1], steps.count(1)


def read_part(path: Path, drop_plate: bool) -> SeriesCase:
    """Read the series of a part of at least two steps, without its plate if that is to be dropped; raises DataError."""
    case = read_series(path)
    if len(case.zmax) < 2:
        raise DataError(f"{path} has {len(case.zmax)} step, which has no increment to learn; leave the part out")
    return without_plate(case) if drop_plate else case


def without_plate(case: SeriesCase) -> SeriesCase:
    """Return a series without the nodes below 0 mm and the elements that they belong to."""
    kept = case.pos[:, 2] >= -TOLERANCE
    place = np.cumsum(kept) - 1
    whole = kept[case.elems].all(axis=1)
    joined = kept[case.edge_index].all(axis=0)
    return SeriesCase(
        case.name,
        case.pos[kept],
        place[case.elems[whole]],
        place[case.edge_index[:, joined]],
        case.zmax,
        case.times,
        case.disp[:, kept],
        case.vmstr[:, kept],
        case.temp[:, kept],
    )


def first_steps(case: SeriesCase) -> np.ndarray:
    """Return the step [N] from which every node is there, T for nodes above the last top."""
    active = active_nodes(case.pos[:, 2], case.zmax)
    return np.where(active.any(axis=0), active.argmax(axis=0), len(case.zmax)).astype(np.int32)


def fill_nodes(case: SeriesCase) -> np.ndarray:
    """Return for every node [N] the nearest node of the layers below it, itself where there are none below."""
    found = np.arange(len(case.pos), dtype=np.int32)
    for step in range(len(case.zmax) - 1):
        new, sources = fill_sources(case.pos, case.zmax, step)
        found[new] = sources
    return found


def _split(
    cases: Sequence[SeriesCase],
    inputs: Sequence[np.ndarray],
    names: Sequence[str],
    steps: int,
    edges: np.ndarray | None,
    length: int,
) -> Split:
    x, mask = pad_clouds(inputs, length)
    shape = (len(cases), x.shape[1])
    y = np.zeros((*shape, steps, len(names)), np.float32)
    layer, below = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for row, case in enumerate(cases):
        count = len(case.pos)
        y[row, :count, : len(case.zmax)] = np.moveaxis(scaled_fields(vars(case), names), 0, 1)
        layer[row, :count], below[row, :count] = first_steps(case), fill_nodes(case)
    counts = np.array([len(case.zmax) for case in cases], np.int32)
    return Split(x, y, mask, edges=edges, layer=layer, below=below, steps=counts)


RECORD = DatasetRecord(
    name="am_series",
    folder=FOLDER,
    files=(SERIES,),
    download="your own simulations: python -m data_pipeline.additive --help",
    load=load,
    generator="lpbf",
    num_generate=520,  # of which 108 are held out
    n_train=N_TRAIN,
    n_test=N_TEST,
    options={
        **options.of_parts("disp_z,vm,temp"),
        **declare(
            drop_plate=option(False, help="leave out the plate below the part"),
            split_seed=options.seed(0, "draws the parts that are held out"),
        ),
    },
    has_edges=True,
    kind="layer_series",
    task_options=declare(
        noise=options.noise(0.0, "units of the fields"),
        fill_new_layer=option(False, help="new nodes begin with the fields of the nearest node below them"),
        first=option(1, help="step before which states are given in an evaluation", minimum=1, maximum=options.MOST),
        teacher_forced=option(False, help="evaluate every step from the true state before it"),
        symmetries=options.symmetries(),
    ),
    c_in=6,
    c_out=3,
    recipe={"all": {"epochs": 100, "batch_size": 1, "weight_decay": 1e-4}},
    model={"upt": {**MANY_SUPERNODES, "space_dim": 3}},
    like="lpbf",
    smoke={
        "data": {"n_train": 8, "n_test": 2, "num_generate": 15, "resolution": 25},
        "train": {"epochs": 3, "batch_size": 2},
    },
)
