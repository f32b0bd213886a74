"""Finding a data set by name, and generating it where that is asked for and possible."""

import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from data_pipeline.custom import loader as custom
from data_pipeline.dataset import PDEDataset
from data_pipeline.errors import DataError
from data_pipeline.files import SOURCE_FILE
from data_pipeline.pde import (
    airfoil_dynamic,
    airfoil_steady,
    cylinder_flow,
    darcy,
    darcy_small,
    drivaerml,
    elasticity,
    lpbf,
    navier_stokes,
    pipe,
    plasticity,
    shapenet_car,
)


class Loader(Protocol):
    """What the module of a data set has.

    `FOLDER` below the data root holds all `FILES`; `N_TRAIN` and `N_TEST` are the published numbers of samples,
    `GENERATOR` the name of the generator that writes the same files, or None, and `DOWNLOAD` says where to get them.

    A module may also have `OPTIONS`, further arguments of `load` with their defaults; `STAND_IN`, true where the
    generator imitates the shape of the data without its physics, so that it runs only when asked for; and
    `root(data_dir)`, which finds the folder where that depends on how an archive was unpacked.
    """

    FOLDER: Path
    FILES: tuple[str, ...]
    N_TRAIN: int
    N_TEST: int
    GENERATOR: str | None
    DOWNLOAD: str

    load: Callable[..., PDEDataset]


DATASETS: dict[str, Loader] = {
    "elasticity": elasticity,
    "darcy_small": darcy_small,
    "darcy": darcy,
    "navier_stokes": navier_stokes,
    "pipe": pipe,
    "airfoil_steady": airfoil_steady,
    "plasticity": plasticity,
    "shapenet_car": shapenet_car,
    **{f"drivaerml_{size}": drivaerml.variant(size) for size in drivaerml.SIZES},
    "lpbf": lpbf,
    "airfoil_dynamic": airfoil_dynamic,
    "cylinder_flow": cylinder_flow,
    "custom": custom,
}
SOURCES = ("auto", "files", "generated")


def find_loader(name: str) -> Loader:
    """Return the loader of a data set; raises DataError for an unknown name."""
    if name not in DATASETS:
        raise DataError(f"data.name={name!r} is not a data set; choose one of {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def loader_options(name: str) -> dict[str, Any]:
    """Return the options of a data set's loader with their defaults; none for a name that is unknown."""
    return dict(getattr(DATASETS.get(name), "OPTIONS", {}))


def load_dataset(
    name: str,
    data_dir: Path,
    *,
    source: str = "auto",
    num_generate: int,
    generate_seed: int = 0,
    resolution: int = 0,
    n_train: int,
    n_test: int,
    options: Mapping[str, Any] = types.MappingProxyType({}),
    say: Callable[[str], None] = print,
) -> PDEDataset:
    """Load data set `name` below `data_dir`, with `options` of its loader.

    `source` is "auto" (files that are there, else generated ones), "files" (never generate) or "generated" (refuse
    public files). Generation writes `num_generate` samples of seed `generate_seed`, on grids with `resolution` points
    per side where that is not 0. Raises DataError.
    """
    loader = find_loader(name)
    if source not in SOURCES:
        raise DataError(f"data.source={source!r} is not known; choose one of {', '.join(SOURCES)}")
    unknown = sorted(set(options) - set(loader_options(name)))
    if unknown:
        raise DataError(
            f"data set {name} has no option {unknown[0]!r}; its options are {', '.join(loader_options(name)) or 'none'}"
        )
    folder = _folder(loader, data_dir)
    missing = [file for file in loader.FILES if not (folder / file).exists()]
    if missing:
        settings = {"num": num_generate, "seed": generate_seed, **({"resolution": resolution} if resolution else {})}
        _generate_missing(name, loader, data_dir, missing, source, settings, say)
    elif source == "generated" and not (folder / SOURCE_FILE).exists():
        raise DataError(
            f"{folder} holds public files, but data.source=generated; use another --data_dir or data.source=auto"
        )
    return loader.load(data_dir, n_train, n_test, **options)


def _folder(loader: Loader, data_dir: Path) -> Path:
    return loader.root(data_dir) if hasattr(loader, "root") else data_dir / loader.FOLDER


def _generate_missing(
    name: str,
    loader: Loader,
    data_dir: Path,
    missing: list[str],
    source: str,
    settings: dict[str, int],
    say: Callable[[str], None],
) -> None:
    """Generate the files of a data set, or say what is missing and where to get it."""
    folder, generator = _folder(loader, data_dir), loader.GENERATOR
    problem = f"{name}: {', '.join(missing)} not found in {folder}; get the files from {loader.DOWNLOAD}"
    if generator is None:
        raise DataError(problem)
    stand_in = getattr(loader, "STAND_IN", False)
    if source == "files" or (source == "auto" and stand_in):
        flags = " ".join(f"--{option}={value}" for option, value in settings.items() if option != "seed")
        command = f"python -m data_pipeline.generate {generator} {flags} --out={data_dir}"
        aim = "to try the program on artificial stand-ins" if stand_in else "to generate them"
        value = "generated" if stand_in else "auto"
        raise DataError(f"{problem}; {aim}, run `{command}` or set data.source={value}")
    kind = "artificial stand-in samples" if stand_in else "samples"
    say(f"{name}: no files in {folder}; generating {settings['num']} {kind} (seed {settings['seed']})")
    # Imported here: the solvers pull in libraries that reading files does not need.
    from data_pipeline.generate import generate

    generate(generator, data_dir, **settings)
