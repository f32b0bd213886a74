"""Velocity over time on triangle meshes, in DeepMind's files of MeshGraphNets (arXiv 2010.03409).

`meta.json` describes the fields of the TFRecords: cells, mesh_pos, node_type and velocity are used. The state is the
velocity at the nodes; normal and outflow nodes are free, all others keep their recorded values. Meshes differ in size
and are padded. The inputs of a node are its place, scaled to the unit square of the training meshes, and its type as a
one-hot code; velocities and their increments are normalised by statistics over the real nodes of the training meshes,
increments over the free ones only. The edges of a case are those of its triangles.
"""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline import options
from data_pipeline.clouds import choose_buckets, pad_clouds
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.files import finite
from data_pipeline.graphs import edges_of_cells, pad_edges
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import DatasetRecord
from data_pipeline.tfrecord import read_examples
from runtime.options import declare, option

FILES = ("meta.json", "train.tfrecord", "test.tfrecord")
NODE_TYPES = 7
FREE_TYPES = (0, 5)  # normal, outflow
_FIELDS = ("mesh_pos", "node_type", "velocity")

Case = dict[str, np.ndarray]


def record(name: str, folder: Path, load: Callable[..., PDEDataset], noise: float) -> DatasetRecord:
    """Return the record of a data set of these files; `noise` is that of training, in data units."""
    return DatasetRecord(
        name=name,
        folder=folder,
        files=FILES,
        download="DeepMind's public bucket of MeshGraphNets (meta.json, train.tfrecord, valid.tfrecord, test.tfrecord)",
        load=load,
        # The files hold 1000 cases to train and 100 each to validate and to test; these fit comfortably in memory.
        n_train=100,
        n_test=20,
        options=declare(
            # The flow starts abruptly.
            skip_steps=option(
                100, help="steps of a series that are left out at its start", minimum=0, maximum=options.MOST
            ),
            max_steps=option(500, help="steps of a series that are used", minimum=2, maximum=options.MOST),
            buckets=options.buckets(3),
        ),
        num_generate=120,
        has_edges=True,
        kind="mesh_series",
        task_options=declare(noise=options.noise(noise, "units of the data")),
        c_in=11,
        c_out=2,
        # Lengths are not published: an epoch has all pairs of successive frames, some 500 of each case. The batch is
        # Transolver's; models that share its batch on grids have it here too.
        recipe={
            "all": {"epochs": 50, "batch_size": 8, "weight_decay": 1e-5},
            "slices": {"batch_size": 4},
            "transolver++": {"batch_size": 4},
            "gnot": {"batch_size": 4},
            "lno": {"batch_size": 4, "weight_decay": 5e-5},
        },
        model={"upt": {"space_dim": 2}},  # the further channels are the type of a node
        like="pipe",
        eval_batch_size=5,
        smoke={
            "data": {"skip_steps": 0, "max_steps": 20, "n_train": 4, "n_test": 2},
            "train": {"epochs": 10, "batch_size": 4},
        },
    )


def load_mesh_series(
    name: str, folder: Path, n_train: int, n_test: int, skip_steps: int, max_steps: int, buckets: int, edges: bool
) -> PDEDataset:
    """Load the first cases of train.tfrecord and test.tfrecord, and of valid.tfrecord where that is there.

    With `edges` they have those of their meshes. Raises DataError for missing or bad files, too few cases and fewer
    than two frames.
    """
    fields = (*_FIELDS, "cells") if edges else _FIELDS
    meta = _read_meta(folder / "meta.json", fields)
    frames = slice(skip_steps, skip_steps + max_steps)
    train = _read_cases(folder / "train.tfrecord", meta, fields, frames, n_train, "data.n_train")
    tests = {"test": _read_cases(folder / "test.tfrecord", meta, fields, frames, n_test, "data.n_test")}
    if (folder / "valid.tfrecord").exists():
        tests["valid"] = _read_cases(folder / "valid.tfrecord", meta, fields, frames, n_test, "data.n_test")
    sizes = choose_buckets(np.array([len(case["mesh_pos"]) for case in train]), buckets)
    places = np.concatenate([case["mesh_pos"] for case in train]).astype(np.float64)
    coordinates = Normalizer(places.min(0), places.max(0) - places.min(0))
    count = train[0]["velocity"].shape[1]
    return PDEDataset(
        name=name,
        train=_split(train, coordinates, sizes[-1]),
        tests={key: _split(cases, coordinates) for key, cases in tests.items()},
        x_normalizer=_with_types(coordinates),
        y_normalizer=Normalizer.fit_parts(case["velocity"] for case in train),
        source=Source.of(folder),
        target_name="velocity along x",
        kind="mesh_series",
        times=(skip_steps + np.arange(count, dtype=np.float32)) * np.float32(meta.get("dt", 1.0)),
        increment_normalizer=Normalizer.fit_parts(
            np.diff(case["velocity"][_free(case)].astype(np.float64), axis=1) for case in train
        ),
        bucket_sizes=sizes,
    )


def _read_meta(path: Path, fields: tuple[str, ...]) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_bytes())
        for name in fields:
            meta["features"][name]["shape"], np.dtype(meta["features"][name]["dtype"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} does not describe {', '.join(fields)} ({error!r}); download it again") from error
    return meta


def _read_cases(
    path: Path, meta: dict[str, Any], fields: tuple[str, ...], frames: slice, count: int, option: str
) -> list[Case]:
    if count < 1:
        raise DataError(f"{option}={count} must be at least 1")
    cases = list(islice(_decoded(path, meta, fields, frames), count))
    if len(cases) < count:
        raise DataError(f"{option}={count}, but {path} holds {len(cases)} cases; choose from 1 to {len(cases)}")
    return cases


def _decoded(path: Path, meta: dict[str, Any], fields: tuple[str, ...], frames: slice) -> Iterator[Case]:
    """Yield places [N, 2], types [N], velocities [N, T, 2] and, if wanted, cells [F, 3] of one case after the other."""
    for number, example in enumerate(read_examples(path)):
        where = f"case {number} of {path}"
        missing = [name for name in fields if name not in example]
        if missing:
            raise DataError(f"{where} lacks {missing}; download the file again")
        arrays = {}
        for name in fields:
            feature = meta["features"][name]
            try:
                flat = np.frombuffer(b"".join(example[name]), np.dtype(feature["dtype"]))
                arrays[name] = flat.reshape(feature["shape"])
            except ValueError as error:
                raise DataError(f"{name} of {where} does not have the shape that meta.json says ({error})") from error
        yield _checked_case(arrays, frames, where)


def _checked_case(arrays: dict[str, np.ndarray], frames: slice, where: str) -> Case:
    velocity = arrays["velocity"][frames].transpose(1, 0, 2)
    places, types = arrays["mesh_pos"][0], arrays["node_type"][0, :, 0]
    if velocity.shape[1] < 2:
        raise DataError(
            f"{where} has {len(arrays['velocity'])} frames, of which data.skip_steps={frames.start} leaves fewer than "
            "two; lower it"
        )
    if not len(places) == len(types) == len(velocity):
        raise DataError(f"the fields of {where} differ in their number of nodes; download the file again")
    if types.min() < 0 or types.max() >= NODE_TYPES:
        raise DataError(f"{where} has node type {types.max()}; types 0 to {NODE_TYPES - 1} are known")
    cells = {"cells": arrays["cells"][0]} if "cells" in arrays else {}
    for corners in cells.values():
        if corners.size and not 0 <= corners.min() <= corners.max() < len(places):
            raise DataError(
                f"the cells of {where} name nodes {corners.min()} to {corners.max()} of {len(places)}; download the "
                "file again"
            )
    return {
        **cells,
        "mesh_pos": finite(places, f"mesh_pos of {where}"),
        "node_type": types.astype(int),
        "velocity": finite(np.ascontiguousarray(velocity), f"velocity of {where}"),
    }


def _free(case: Case) -> np.ndarray:
    return np.isin(case["node_type"], FREE_TYPES)


def _with_types(coordinates: Normalizer) -> Normalizer:
    """Return the normalizer of (place, one-hot type)."""
    same = Normalizer.identity(NODE_TYPES)
    return Normalizer(np.concatenate([coordinates.mean, same.mean]), np.concatenate([coordinates.std, same.std]))


def _split(cases: list[Case], coordinates: Normalizer, length: int = 0) -> Split:
    codes = np.eye(NODE_TYPES, dtype=np.float32)
    nodes = [np.concatenate([coordinates.encode(c["mesh_pos"]), codes[c["node_type"]]], axis=-1) for c in cases]
    x, mask = pad_clouds(nodes, length)
    y, _ = pad_clouds([case["velocity"] for case in cases], x.shape[1])
    free, _ = pad_clouds([_free(case)[:, None] for case in cases], x.shape[1])
    edges = pad_edges([edges_of_cells("triangle", case["cells"]) for case in cases]) if "cells" in cases[0] else None
    return Split(x, y, mask, free=free[..., 0] > 0, edges=edges)
