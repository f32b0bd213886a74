"""Finding a data set by name, and generating it where that is asked for and possible."""

import importlib
import pkgutil
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipeline import pde
from data_pipeline.custom import loader as custom
from data_pipeline.dataset import PDEDataset
from data_pipeline.download.sources import BY_NAME
from data_pipeline.errors import DataError
from data_pipeline.files import SOURCE_FILE, check_generated_with
from data_pipeline.options import check_given
from data_pipeline.record import DatasetRecord


def _records() -> Iterator[DatasetRecord]:
    """Yield the `RECORD`, or the `RECORDS`, of every module of `data_pipeline.pde`, and that of own files."""
    for found in pkgutil.iter_modules(pde.__path__):
        module = importlib.import_module(f"{pde.__name__}.{found.name}")
        yield from getattr(module, "RECORDS", ())
        if hasattr(module, "RECORD"):
            yield module.RECORD
    yield custom.RECORD


DATASETS: Mapping[str, DatasetRecord] = types.MappingProxyType({record.name: record for record in _records()})
SOURCES = ("auto", "files", "generated")


def find_record(name: str) -> DatasetRecord:
    """Return the record of a data set; raises DataError for an unknown name."""
    if name not in DATASETS:
        raise DataError(f"data.name={name!r} is not a data set; choose one of {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def load_dataset(
    name: str,
    data_dir: Path,
    *,
    source: str = "files",
    num_generate: int,
    generate_seed: int = 0,
    resolution: int = 0,
    n_train: int,
    n_test: int,
    options: Mapping[str, Any] = types.MappingProxyType({}),
    asked: Collection[str] = (),
    edges: bool = False,
    say: Callable[[str], None] = print,
) -> PDEDataset:
    """Load data set `name` below `data_dir`, with `options` of its loader.

    `source` is "files" (never generate), "auto" (files that are there, else generated ones) or "generated" (refuse
    public files). Generation writes `num_generate` samples of seed `generate_seed`, on grids with `resolution` points
    per side where that is not 0; files at hand must have been generated with those of the three that are `asked` for.
    With `edges` samples have the edges of their meshes. Raises DataError.
    """
    record = find_record(name)
    if source not in SOURCES:
        raise DataError(f"data.source={source!r} is not known; choose one of {', '.join(SOURCES)}")
    check_given(f"data set {name}", record.options, options)
    if edges and not record.has_edges:
        meshes = ", ".join(other.name for other in DATASETS.values() if other.has_edges)
        raise DataError(
            f"data set {name} has no edges of a mesh, along which this model type sends messages; choose another model "
            f"type, or one of the data sets {meshes}"
        )
    folder = record.place(data_dir)
    missing = [file for file in record.files if not (folder / file).exists()]
    if missing:
        settings = {"num": num_generate, "seed": generate_seed, **({"resolution": resolution} if resolution else {})}
        _generate_missing(record, data_dir, missing, source, settings, say)
    elif source == "generated" and not (folder / SOURCE_FILE).exists():
        raise DataError(
            f"{folder} holds public files, but data.source=generated; use another --data_dir or data.source=files"
        )
    else:
        values = {"num_generate": num_generate, "generate_seed": generate_seed, "resolution": resolution}
        check_generated_with(folder, {name: values[name] for name in asked})
    dataset = record.load(data_dir, n_train, n_test, **options, **({"edges": True} if edges else {}))
    for note in dataset.source.detail.get("notes", ()):
        say(f"warning: {note}")
    return dataset


def _generate_missing(
    record: DatasetRecord,
    data_dir: Path,
    missing: list[str],
    source: str,
    settings: dict[str, int],
    say: Callable[[str], None],
) -> None:
    """Generate the files of a data set, or say what is missing and where to get it."""
    name, folder, generator = record.name, record.place(data_dir), record.generator
    command = f" (python -m data_pipeline.download {name} --data_dir={data_dir})" if name in BY_NAME else ""
    problem = f"{name}: {', '.join(missing)} not found in {folder}; get the files from {record.download}{command}"
    if generator is None:
        raise DataError(problem)
    if source == "files" or (source == "auto" and record.stand_in):
        flags = " ".join(f"--{option}={value}" for option, value in settings.items() if option != "seed")
        command = f"python -m data_pipeline.generate {generator} {flags} --out={data_dir}"
        aim = "to try the program on artificial stand-ins" if record.stand_in else "to generate them"
        raise DataError(f"{problem}; {aim}, run `{command}` or set data.source=generated")
    kind = "artificial stand-in samples" if record.stand_in else "samples"
    say(f"{name}: no files in {folder}; generating {settings['num']} {kind} (seed {settings['seed']})")
    # Imported here: the solvers pull in libraries that reading files does not need.
    from data_pipeline.generate import generate

    generate(generator, data_dir, **settings)
