"""A user's own files as a data set: in memory where they fit, streamed from a cache on disk where they do not.

Inputs of the model are the coordinates and the further inputs, normalised by their mean and standard deviation over the
training points; coordinates that are the same at all of these (z of a plane mesh) are left out. Targets are centred and
each field is divided by its spread, the standard deviation over the training points, so that neither units nor offsets
matter and errors weigh several fields alike. Both ways of loading give the same numbers.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_pipeline.clouds import choose_buckets
from data_pipeline.custom.folder import EXAMPLE, find_samples
from data_pipeline.custom.in_memory import SamplesInMemory
from data_pipeline.custom.integrals import Integral, Weights, check_channels, parse_integrals, parse_reference
from data_pipeline.custom.options import OPTIONS, check_options
from data_pipeline.custom.readers import TIME, Reference, list_arrays, read_contents, read_sample
from data_pipeline.custom.regions import regions_of
from data_pipeline.custom.rollout import load_rollout
from data_pipeline.custom.sample import Fields, Sample, make_sample, parse_fields
from data_pipeline.custom.sanity import constant_notes, duplicate_notes, extent_notes, without_zero_samples
from data_pipeline.custom.scaling import input_normalizer, target_normalizer, target_scales, varying
from data_pipeline.custom.splitting import split_samples, split_series
from data_pipeline.dataset import Channels, Integrals, PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.generate.progress import show_progress
from data_pipeline.normalizer import Normalizer
from data_pipeline.options import noise
from data_pipeline.record import DatasetRecord
from data_pipeline.streaming.cache import FORMAT, Cache, build_cache, open_cache
from data_pipeline.streaming.rows import StoredMask, StoredRows, stored_fingerprint
from data_pipeline.surface import check_surface, parse_surface
from runtime.options import declare


@dataclass(frozen=True)
class StreamedDataset(PDEDataset):
    """A data set whose splits hold `StoredRows`."""

    def fingerprint(self) -> str:
        """Return a hash of all arrays, from their checksums."""
        parts = [stored_fingerprint(split.arrays()) for split in (self.train, *self.tests.values())]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def input_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest value of every input channel of the training set, as encoded."""
        rows = self.train.x
        moments = rows.cache.moments(rows.rows, rows.name)
        columns = list(rows.columns)
        return rows.normalizer.encode(moments.low[columns]), rows.normalizer.encode(moments.high[columns])


def load(
    data_dir: Path,
    n_train: int,
    n_test: int,
    path: str,
    files: str = "",
    points: str = "points",
    inputs: str = "",
    targets: str = "",
    cell_data: str = "",
    time: str = "",
    prescribed: str = "",
    integrals: str = "",
    reference: str = "",
    surface: str = "",
    grid: str = "",
    split: str = "",
    split_seed: int = 0,
    n_val: int = 0,
    buckets: int = 4,
    stream: str = "auto",
    memory_gib: float = 8.0,
    cache: str = "",
) -> PDEDataset:
    """Load the samples in `path`; 0 for `n_train` and `n_test` takes all, and a tenth where tests are drawn.

    Raises DataError for missing and bad files and for samples that do not go together.
    """
    check_options(path, time, prescribed, integrals, reference, surface)
    wanted = parse_integrals(integrals)
    divide = split_series if time else split_samples
    found = find_samples(Path(path), files, in_time=bool(time))
    splits = divide(found, n_train, n_val, n_test, split, split_seed, Path(path))
    if time == "rollout":
        first = splits["train"][0][0]
        present = list_arrays(first, cell_data)
        if prescribed and prescribed not in present:
            raise DataError(
                f"data.prescribed={prescribed!r} is none of the arrays {', '.join(present)} of {first}; name a field "
                "that is not 0 at points whose state is given"
            )
        fields = parse_fields(points, inputs, targets, present, cell_data)
        return load_rollout(splits, fields, prescribed, wanted, parse_reference(reference), buckets, Path(path))
    if time:
        splits = {name: [step for steps in series for step in steps] for name, series in splits.items()}
        inputs = inputs if TIME in inputs.split(",") else ",".join(filter(None, (inputs, TIME)))
    references = [one for name in sorted(splits) for one in splits[name]]
    fields = parse_fields(points, inputs, targets, list_arrays(references[0], cell_data), cell_data)
    sizes = [path.stat().st_size for path in {reference.path for reference in references}]
    layout = read_sample(references[0], fields).layout()
    check_surface(parse_surface(surface), layout["targets"])
    read = _reader(references, fields, layout)
    streams = stream == "always" or (stream == "auto" and sum(sizes) > memory_gib * 2**30)
    if streams:
        folder = Path(cache) if cache else data_dir / "cache"
        arrays = _open_cache(folder / f"{Path(path).name}-{_key(references, fields)}", len(references), read)
    else:
        arrays = SamplesInMemory(list(map(read, range(len(references)))))
    starts = np.cumsum([0, *(len(splits[name]) for name in sorted(splits))])
    rows = {name: np.arange(starts[i], starts[i + 1]) for i, name in enumerate(sorted(splits))}
    rows, notes = without_zero_samples(arrays, rows, references)
    notes += duplicate_notes(arrays, rows, references)
    notes += extent_notes(arrays, rows, references, layout["points"]["points"])
    notes += constant_notes(arrays, rows, layout["targets"])
    names = {name: [references[row].name for row in rows[name]] for name in splits}
    dataset = _assemble(arrays, rows, layout, _grid_shape(grid), buckets, Path(path), names, fields, notes)
    dataset = replace(dataset, surface=parse_surface(surface))
    if not wanted:
        return dataset
    check_channels(wanted, layout["targets"], dataset.space_dim)
    tests = {name: [references[row] for row in rows[name]] for name in dataset.tests}
    weights = {name: [_weights(wanted, one, fields) for one in found] for name, found in tests.items()}
    return replace(dataset, integrals=Integrals(wanted, parse_reference(reference), weights))


def _weights(wanted: tuple[Integral, ...], reference: Reference, fields: Fields) -> tuple[Weights, ...]:
    contents = read_contents(reference, cell_data=fields.cell_data)
    sample = make_sample(reference.name, contents, fields, str(reference))
    return regions_of(wanted, sample, contents, str(reference)).weights()


def _reader(
    references: Sequence[Reference], fields: Fields, layout: Mapping[str, Mapping[str, int]]
) -> Callable[[int], dict[str, np.ndarray]]:
    """Return the function that reads arrays `x` and `y` of a sample, which must have the layout of the first."""

    def read(number: int) -> dict[str, np.ndarray]:
        sample = read_sample(references[number], fields)
        _check_layout(sample, layout, references[number], references[0])
        return {"x": sample.features(), "y": sample.fields()}

    return read


def _check_layout(
    sample: Sample, layout: Mapping[str, Mapping[str, int]], reference: Reference, first: Reference
) -> None:
    found = sample.layout()
    for part, widths in layout.items():
        if found[part] != widths:
            raise DataError(
                f"{reference} has the {part} {_spoken(found[part])}, but {first} has {_spoken(widths)}; all samples "
                "need the same channels"
            )


def _spoken(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({width} channels)" for name, width in widths.items()) or "(none)"


def _grid_shape(text: str) -> tuple[int, ...] | None:
    if not text:
        return None
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise DataError(f"data.grid={text!r} is not understood; write the sizes of its axes, such as 64,64")
    return tuple(int(part) for part in parts)


def _key(references: Sequence[Reference], fields: Fields) -> str:
    """Return a hash by which a cache is found again as long as neither the files nor the wanted fields change."""
    digest = hashlib.sha256(f"{FORMAT} {fields!r}".encode())
    for reference in references:
        status = reference.path.stat()
        digest.update(f"{reference} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]


def _open_cache(folder: Path, total: int, read: Callable[[int], dict[str, np.ndarray]]) -> Cache:
    cache = open_cache(folder)
    if cache is not None:
        return cache
    with show_progress(f"cache {folder.name}", total, 0) as advance:
        return build_cache(folder, total, read, advance)


def _assemble(
    arrays: SamplesInMemory | Cache,
    rows: Mapping[str, np.ndarray],
    layout: Mapping[str, Mapping[str, int]],
    grid: tuple[int, ...] | None,
    buckets: int,
    path: Path,
    names: Mapping[str, Sequence[str]],
    fields: Fields,
    notes: Sequence[str],
) -> PDEDataset:
    features = arrays.moments(rows["train"], "x")
    space = layout["points"]["points"]
    columns = varying(features, space)
    axes = [column for column in columns if column < space]
    if not axes:
        raise DataError(f"all points of the training samples in {path} coincide; check data.points")
    x_normalizer = input_normalizer(features, columns)
    targets = arrays.moments(rows["train"], "y")
    scales = target_scales(targets, layout["targets"])
    scaling = Normalizer(targets.mean, scales)
    counts = {name: np.array([arrays.count(row) for row in chosen]) for name, chosen in rows.items()}
    _check_grid(grid, counts)
    sizes = choose_buckets(counts["train"], buckets)
    make = _stored_split if isinstance(arrays, Cache) else SamplesInMemory.split
    splits = {
        name: make(arrays, chosen, columns, (x_normalizer, scaling), sizes[-1] if name == "train" else 0)
        for name, chosen in rows.items()
    }
    kind = StreamedDataset if isinstance(arrays, Cache) else PDEDataset
    return kind(
        name="custom",
        train=splits.pop("train"),
        tests=splits,
        x_normalizer=x_normalizer,
        y_normalizer=target_normalizer(targets, scales),
        source=Source(
            "own files",
            str(path),
            {
                "samples": dict(names),
                "axes": axes,
                "inputs": dict(layout["inputs"]),
                "targets": dict(layout["targets"]),
                "target_scales": scales.tolist(),
                "target_means": targets.mean.tolist(),
                "streamed": isinstance(arrays, Cache),
                "notes": list(notes),
            },
        ),
        target_name=next(iter(layout["targets"])),
        grid_shape=grid,
        space_dim=len(axes),
        bucket_sizes=sizes,
        channels=Channels(tuple(axes), dict(layout["inputs"]), dict(layout["targets"]), scales, (fields,)),
        sample_names=names,
        offset=targets.mean / scales,
        spread_fields=dict(layout["targets"]),
    )


def _check_grid(grid: tuple[int, ...] | None, counts: Mapping[str, np.ndarray]) -> None:
    if grid is None:
        return
    wrong = next((count for values in counts.values() for count in values if count != np.prod(grid)), None)
    if wrong is not None:
        raise DataError(
            f"data.grid={','.join(map(str, grid))} has {np.prod(grid)} points, but a sample has {wrong}; leave it out "
            "for point clouds"
        )


def _stored_split(
    cache: Cache, rows: np.ndarray, columns: tuple[int, ...], scalings: Sequence[Normalizer], length: int
) -> Split:
    counts = np.array([cache.count(row) for row in rows])
    length = max(length, int(counts.max()))
    mask = None if (counts == length).all() else StoredMask(counts, length)
    x_scaling, y_scaling = scalings
    channels = tuple(range(len(y_scaling.mean)))
    return Split(
        StoredRows(cache, "x", rows, length, columns, x_scaling),
        StoredRows(cache, "y", rows, length, channels, y_scaling),
        mask,
    )


# There is no folder of fixed name, no published number of samples and no generator.
RECORD = DatasetRecord(
    name="custom",
    folder=Path(),
    files=(),
    download=f"your own simulations, or example ones: {EXAMPLE}",
    load=load,
    n_train=0,
    n_test=0,
    options=OPTIONS,
    task_options=declare(noise=noise(0.0, "units of the spread of every field, in rollouts")),
)
