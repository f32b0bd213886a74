"""What is made of extracted cases: series on one mesh, distance features, statistics, selections, data sets."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.additive import published, statistics
from data_pipeline.additive.case import FinalCase, read_final, read_series, write_case
from data_pipeline.additive.distance import distance_features, normalized_features
from data_pipeline.additive.extraction import FEATURES, FINAL, SERIES, STEPS, read_steps
from data_pipeline.additive.merge import merge
from data_pipeline.errors import DataError
from data_pipeline.files import SOURCE_FILE, matching, read_source
from data_pipeline.generate.progress import show_progress
from runtime.files import remove_leftovers, replacing, write_text

Say = Callable[[str], None]


def final_files(data: Path) -> list[Path]:
    """Return the files of final states in a folder of extracted cases, or of a data set with train and test."""
    folders = [data / FINAL] if (data / FINAL).is_dir() else [data / split for split in published.SPLITS]
    found = [path for folder in folders for path in matching(folder, "*.npz")]
    if not found:
        raise DataError(
            f"{data} holds no final states in {FINAL}, or in train and test; extract or generate them first"
        )
    return found


def merge_series(data: Path, interpolation: str, progress: bool = True, say: Say = print) -> tuple[int, int]:
    """Write every extracted series on one mesh; return how many are there, and how many failed."""
    paths = matching(data / STEPS, "*.npz")
    if not paths:
        raise DataError(f"{data / STEPS} holds no series; extract them with --series first")
    return _each(
        "merge",
        paths,
        data / SERIES,
        lambda path, target: write_case(target, merge(path.stem, read_steps(path), interpolation)),
        progress,
        say,
    )


def write_features(data: Path, progress: bool = True, say: Say = print) -> tuple[int, int]:
    """Write distance features of every final state; return how many are there, and how many failed."""

    def write(path: Path, target: Path) -> None:
        case = read_final(path)
        features = distance_features(case.pos, case.elems)
        with replacing(target) as temporary:
            arrays = {"features": features, "normalized": normalized_features(features)}
            np.savez_compressed(temporary, **{name: array.astype(np.float32) for name, array in arrays.items()})

    return _each("features", final_files(data), data / FEATURES, write, progress, say)


def write_statistics(data: Path, progress: bool = True, say: Say = print) -> tuple[int, int]:
    """Write dataset_statistics.csv, .txt, .png and .pdf of all final states; return numbers of cases and failures."""
    names, rows, failed = [], [], 0
    paths = final_files(data)
    with show_progress("statistics", len(paths), 0, progress) as advance:
        for path, case in _readable(paths, say):
            if case is None:
                failed += 1
            else:
                names.append(path.stem)
                rows.append(statistics.statistics_of(case))
            advance(1)
    if not rows:
        raise DataError(f"none of the {len(paths)} final states in {data} can be read; extract them again")
    table = {name: np.array([row[name] for row in rows]) for name in statistics.STATISTICS}
    write_tables(data, "dataset_statistics", names, table)
    return len(names), failed


def write_tables(folder: Path, stem: str, names: Sequence[str], table: Mapping[str, np.ndarray]) -> None:
    """Write a table of statistics, its description and its figures."""
    from data_pipeline.additive.figures import densities, density_row

    write_text(folder / f"{stem}.csv", statistics.as_csv(names, table))
    write_text(folder / f"{stem}.txt", statistics.description(table))
    for suffix, figure in ((".png", densities(table)), (".pdf", density_row(table))):
        with replacing(folder / f"{stem}{suffix}") as temporary:
            figure.savefig(temporary, dpi=120)


def write_selection(source: Path, out: Path, limits: Mapping[str, float]) -> tuple[int, int]:
    """Write the names of the cases within limits, and their statistics; return how many are kept, of how many."""
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read ({error}); name the CSV file that `statistics` wrote") from error
    names, table = statistics.from_csv(text, str(source))
    kept = statistics.keep(table, limits)
    chosen = [name for name, one in zip(names, kept, strict=True) if one]
    write_text(out, "".join(f"{name}\n" for name in chosen))
    if chosen:
        write_tables(out.parent, f"{out.stem}_statistics", chosen, {name: one[kept] for name, one in table.items()})
    return len(chosen), len(names)


def write_dataset(
    data: Path, out: Path, include: Path | None, seed: int, progress: bool = True, say: Say = print
) -> dict[str, int]:
    """Write chosen cases in the published layout, with their series where they are; return the sizes of the splits.

    The folder `out` must not hold anything. Raises DataError.
    """
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty, and nothing in it is replaced; choose another --out or empty it")
    paths = {path.stem: path for path in final_files(data)}
    names = sorted(paths) if include is None else _included(include, paths)
    if len(names) < 2:
        raise DataError(f"{len(names)} case cannot be split into train and test; give at least 2")
    numbers = {name: number for number, name in enumerate(sorted(paths))}
    generated = read_source(data) is not None
    rows: dict[str, list[published.Row]] = {}
    with replacing(out) as staging, show_progress("index", len(names), 0, progress) as advance:
        for split, chosen in published.split_cases(names, seed).items():
            (staging / split).mkdir(parents=True)
            rows[split] = []
            for name in chosen:
                final = read_final(paths[name])
                rows[split].append(published.write_final(staging / split, numbers[name], final, generated))
                series = data / SERIES / f"{name}.npz"
                if series.exists():
                    target = staging / published.SERIES / split
                    target.mkdir(parents=True, exist_ok=True)
                    write_case(target / published.file_name(numbers[name], name), read_series(series))
                advance(1)
        published.write_index(staging, rows)
        if not published.write_tables(staging, rows):
            tables, index = published.TABLES, published.INDEX
            say(f"no tables in {tables}/: they need pyarrow (pip install pyarrow); {index} has the same rows")
        if generated:
            shutil.copyfile(data / SOURCE_FILE, staging / SOURCE_FILE)
    return {split: len(part) for split, part in rows.items()}


def _included(include: Path, paths: Mapping[str, Path]) -> list[str]:
    """Return the names in a list, each of which must be a case."""
    try:
        names = [line.strip() for line in include.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{include} cannot be read ({error}); name the list that `filter` wrote") from error
    missing = [name for name in names if name not in paths]
    if missing:
        raise DataError(
            f"{include} names {missing[0]!r}, which is no case, and {len(missing)} such; write the list again"
        )
    return sorted(set(names))


def _each(
    label: str,
    paths: Sequence[Path],
    folder: Path,
    write: Callable[[Path, Path], None],
    progress: bool,
    say: Say,
) -> tuple[int, int]:
    """Call `write` with every file whose result is not in `folder` yet; failures are said, and the rest goes on."""
    folder.mkdir(exist_ok=True)
    remove_leftovers(folder)
    todo = [path for path in paths if not (folder / path.name).exists()]
    failed = 0
    with show_progress(label, len(paths), len(paths) - len(todo), progress) as advance:
        for path in todo:
            try:
                write(path, folder / path.name)
            except DataError as error:
                failed += 1
                say(f"{path.stem}: {error}")
            advance(1)
    return len(paths) - failed, failed


def _readable(paths: Sequence[Path], say: Say) -> Iterator[tuple[Path, FinalCase | None]]:
    for path in paths:
        case = None
        try:
            case = read_final(path)
        except DataError as error:
            say(f"{path.stem}: {error}")
        yield path, case
