"""Finding a data set by name, and generating it where that is asked for and possible."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from data_pipeline.dataset import PDEDataset
from data_pipeline.errors import DataError
from data_pipeline.files import SOURCE_FILE
from data_pipeline.pde import darcy_small, elasticity

DATASETS: dict[str, ModuleType] = {"elasticity": elasticity, "darcy_small": darcy_small}
SOURCES = ("auto", "files", "generated")


def load_dataset(
    name: str,
    data_dir: Path,
    *,
    source: str = "auto",
    num_generate: int,
    generate_seed: int = 0,
    n_train: int,
    n_test: int,
    say: Callable[[str], None] = print,
) -> PDEDataset:
    """Load data set `name` below `data_dir`.

    `source` is "auto" (files that are there, else generated ones), "files" (never generate) or "generated" (refuse
    public files). Generation writes `num_generate` samples of seed `generate_seed`. Raises DataError.
    """
    if name not in DATASETS:
        raise DataError(f"data.name={name!r} is not a data set; choose one of {', '.join(sorted(DATASETS))}")
    if source not in SOURCES:
        raise DataError(f"data.source={source!r} is not known; choose one of {', '.join(SOURCES)}")
    module = DATASETS[name]
    folder = data_dir / module.FOLDER
    missing = [file for file in module.FILES if not (folder / file).exists()]
    if missing:
        _generate_missing(name, module, data_dir, missing, source, num_generate, generate_seed, say)
    elif source == "generated" and not (folder / SOURCE_FILE).exists():
        raise DataError(
            f"{folder} holds public files, but data.source=generated; use another --data_dir or data.source=auto"
        )
    return module.load(data_dir, n_train, n_test)


def _generate_missing(
    name: str,
    module: ModuleType,
    data_dir: Path,
    missing: list[str],
    source: str,
    num: int,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Generate the files of a data set, or say what is missing and where to get it."""
    folder = data_dir / module.FOLDER
    problem = f"{name}: {', '.join(missing)} not found in {folder}; get the files from {module.DOWNLOAD}"
    if module.GENERATOR is None:
        raise DataError(problem)
    if source == "files":
        raise DataError(
            f"{problem}, or run `python -m data_pipeline.generate {module.GENERATOR} --num={num} --out={data_dir}`, "
            "or set data.source=auto"
        )
    say(f"{name}: no files in {folder}; generating {num} samples (seed {seed})")
    # Imported here: the solvers pull in scikit-fem, which reading files does not need.
    from data_pipeline.generate import generate

    generate(module.GENERATOR, data_dir, num, seed)
