"""Looking at a data set: `python -m data_pipeline.inspect NAME --data_dir=data [--out=FIGURE.png]`.

Prints split sizes, shapes and ranges of the arrays as the training gets them, says where the files came from, and draws
one sample. In place of NAME a file or folder of a user's own: then it prints what is in it, proposes points, inputs and
targets as options of the training, and draws them.
"""

import argparse
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from data_pipeline.custom.folder import holds_many
from data_pipeline.custom.proposal import describe_contents, propose, samples_at, shown_fields
from data_pipeline.custom.readers import Reference
from data_pipeline.custom.sample import check_cell_data
from data_pipeline.dataset import PDEDataset, Split
from data_pipeline.registry import DATASETS, find_record, load_dataset
from data_pipeline.streaming.rows import is_stored
from runtime.command import Parser, integer, sentence
from runtime.options import defaults_of
from runtime.words import did_you_mean

_ABOUT = """\
Say what is in a data set, or in a file or folder of yours and with which options to train on it; draw a sample.

  python -m data_pipeline.inspect data/ellipses                              what is there, and the options
  python -m data_pipeline.inspect data/cases --config.data.files=*.vtu       of some of the files
  python -m data_pipeline.inspect elasticity --data_dir=data                 a public or generated set, as loaded
  python -m data_pipeline.inspect custom --config.data.path=data/ellipses --config.data.targets=pressure"""
_PICTURES = (".png", ".pdf", ".svg", ".jpg")
_MOST_POINTS = 40_000  # more are neither visible nor quick to draw


def describe(dataset: PDEDataset) -> str:
    """Return the facts of a data set as lines of text."""
    lines = [
        f"{dataset.name}: {dataset.kind.replace('_', ' ')}, {dataset.source.describe()}",
        f"  predicted: {_predicted(dataset)}; {dataset.c_in} input channels -> {dataset.c_out}"
        + (f", features {dataset.fun_dim}" if dataset.fun_dim else ""),
        f"  points: at most {dataset.max_length}"
        + ("" if dataset.grid_shape is None else f", grid {' x '.join(map(str, dataset.grid_shape))}")
        + (f", buckets {dataset.bucket_sizes}" if len(dataset.bucket_sizes) > 1 else ""),
    ]
    if dataset.times is not None:
        lines.append(f"  times: {len(dataset.times)} from {dataset.times[0]:g} to {dataset.times[-1]:g}")
    for name, normalizer in (("x", dataset.x_normalizer), ("y", dataset.y_normalizer)):
        lines.append(f"  {name} normalizer: mean {_numbers(normalizer.mean)}, std {_numbers(normalizer.std)}")
    for name, split in {"train": dataset.train, **dataset.tests}.items():
        names = dataset.sample_names.get(name, ())
        listed = f", {names[0]} to {names[-1]}" if names else ""
        lines += [f"  {name}: {len(split)} samples{listed}", *(f"    {line}" for line in _array_lines(split))]
    return "\n".join(lines)


def _predicted(dataset: PDEDataset) -> str:
    """Return the names of the predicted fields with their numbers of channels, and those of the inputs."""
    if dataset.channels is None:
        return dataset.target_name
    named = [
        ", ".join(f"{name} ({width})" for name, width in part.items())
        for part in (dataset.channels.targets, dataset.channels.inputs)
    ]
    return named[0] + (f" from {named[1]}" if named[1] else "")


def _array_lines(split: Split) -> list[str]:
    """Return shape, type and range of every array, the latter over real points only."""
    if is_stored(split.arrays()):
        return [f"{name} {array.shape} {array.dtype}: on disk" for name, array in split.arrays().items()]
    lines = []
    for name, array in split.arrays().items():
        real = array if split.mask is None or name in ("mask", "edges") or array.ndim == 1 else array[split.mask]
        if array.dtype == bool:
            extent = f"{real.mean():.1%} true"
        else:
            extent = f"{real.min():.5g} to {real.max():.5g}, mean {real.mean(dtype=np.float64):.5g}"
        lines.append(f"{name} {array.shape} {array.dtype}: {extent}")
    return lines


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in values) + ")"


def draw_sample(dataset: PDEDataset, split: str, case: int) -> Figure:
    """Draw the target of one sample, and its inputs beside the coordinates; of frames the first and the last."""
    chosen = {"train": dataset.train, **dataset.tests}[split]
    real = np.flatnonzero(chosen.real(case))
    if len(real) > _MOST_POINTS:
        real = np.sort(np.random.default_rng(0).choice(real, _MOST_POINTS, replace=False))
    places = dataset.positions(chosen, case)[real]
    panels = _panels(dataset, chosen, case, real)
    return _draw(f"{dataset.name}, {split} {dataset.case_name(split, case)}", places, panels)


def _draw(title: str, places: np.ndarray, panels: Mapping[str, np.ndarray]) -> Figure:
    """Draw fields [N] at places [N, D] side by side; those on a line as graphs."""
    if not places.shape[1] or not np.isfinite(places).all():
        raise ValueError(f"{title} has points that all coincide or are not finite, so there is no picture; repair it")
    figure = Figure(figsize=(5.0 * max(1, len(panels)), 4.2), constrained_layout=True)
    for number, (name, values) in enumerate(panels.items()):
        spatial = {"projection": "3d"} if places.shape[1] == 3 else {}
        axes = figure.add_subplot(1, len(panels), number + 1, **spatial)
        drawn = places.T if places.shape[1] > 1 else (places[:, 0], values)
        marks = axes.scatter(*drawn, c=values, s=float(np.clip(6e4 / len(places), 0.5, 60)), linewidths=0)
        axes.set_title(name)
        if places.shape[1] > 1:
            axes.set_aspect("equal")
        figure.colorbar(marks, ax=axes, shrink=0.8)
    figure.suptitle(title)
    return figure


def _panels(dataset: PDEDataset, split: Split, case: int, points: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields to draw by title."""
    panels: dict[str, np.ndarray] = {}
    if dataset.kind == "steady":
        panels |= dataset.shown_inputs(split.x[case, points])
    if split.fx is not None:
        panels["last feature"] = split.fx[case, points, -1]
    target = split.y[case, points]
    if target.ndim == 2:
        return panels | dataset.shown_fields(target)
    ends = {0: "first frame", -1: "last frame"}
    frames = dataset.in_units(target)[..., dataset.shown_channel]
    return {**panels, **{f"{dataset.target_name}, {name}": frames[:, index] for index, name in ends.items()}}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for what it refuses."""
    # Options of own data may be spelled as for training.
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args([re.sub(r"^--config\.data\.(\w+)=", r"--set=\1=", text) for text in given])
    try:
        if options.out is not None and options.out.suffix.lower() not in _PICTURES:
            raise ValueError(f"--out={options.out} must end in one of {', '.join(_PICTURES)}; rename it")
        _inspect(options, print)
    except (ValueError, OSError, MemoryError, OverflowError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    return 0


def _inspect(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    if options.name in DATASETS:
        _inspect_dataset(options, say)
    elif Path(options.name).exists():
        _inspect_files(Path(options.name), options, say)
    else:
        raise ValueError(
            f"{options.name!r} is no file or folder that exists, and no data set"
            f"{did_you_mean(options.name, DATASETS)}; check the path, or choose one of {', '.join(DATASETS)}"
        )


def _inspect_files(path: Path, options: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Say what a user's file or folder holds and how to train on it, and draw a sample of it."""
    given = dict(_loader_option("custom", text) for text in options.set)
    if other := next(iter(set(given) - {"files", "cell_data"}), None):
        raise ValueError(
            f"--config.data.{other}={given[other]} goes with a data set; to see {path} with it, name custom in its "
            f"place and add --config.data.path={path}"
        )
    check_cell_data(given.get("cell_data", ""))
    splits = samples_at(path, given.get("files", ""))
    counts = ", ".join(f"{len(references)} {name}".strip() for name, references in splits.items())
    drawn = ", of which a tenth will be drawn as tests" if set(splits) == {""} and path.is_dir() else ""
    every = [one for references in splits.values() for one in references]
    series = Counter(one.series for one in every if one.series)
    steps = f", the steps of {len(series)} series" if max(series.values(), default=1) > 1 else ""
    say(f"{path} holds {counts} sample{'' if counts == '1' else 's'}{steps}{drawn}")
    references = _chosen(splits, options)
    reference = references[options.case]
    # A single file is one sample of the folder that a training takes.
    whole = path.is_dir() or holds_many(path)
    folder, chosen_cells = path if whole else path.parent, given.get("cell_data", "")
    proposal, contents = propose(folder, reference, series[reference.series], chosen_cells)
    say(f"{reference}:")
    say("\n".join(f"  {line}" for line in describe_contents(contents)))
    if proposal.remark:
        say(proposal.remark)
    files = [f"--config.data.files={shlex.quote(given['files'])}"] if "files" in given else []
    chosen = [*proposal.arguments(), *files]
    say("proposed by names and shapes alone, to be corrected where they mislead:")
    say(" \\\n    ".join(["  python -m experiments.pdebench --config=configs/custom.py", *chosen]))
    figure_path = options.out or Path(f"{path.stem}.png")
    figure = _draw(f"{path.name}, {reference.name}", *shown_fields(proposal, contents, _MOST_POINTS))
    figure.savefig(figure_path, dpi=120)
    say(f"{reference.name} drawn in {figure_path}")


def _chosen(splits: Mapping[str, Sequence[Reference]], options: argparse.Namespace) -> Sequence[Reference]:
    """Return the samples of the split that was asked for, or else of the tests or the first there is."""
    asked = options.split or next((name for name in splits if name.startswith("test")), next(iter(splits)))
    if asked not in splits:
        listed = ", ".join(name for name in splits if name) or "no splits"
        raise ValueError(f"--split={asked} is not there; choose among {listed}, or leave it out")
    if options.case >= len(splits[asked]):
        raise ValueError(f"--case={options.case} is no sample; choose one of 0 to {len(splits[asked]) - 1}")
    return splits[asked]


def _inspect_dataset(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    record = find_record(options.name)
    dataset = load_dataset(
        options.name,
        options.data_dir,
        source="files",
        num_generate=record.n_train + record.n_test,
        n_train=record.n_train if options.n_train is None else options.n_train,
        n_test=record.n_test if options.n_test is None else options.n_test,
        options={**defaults_of(record.options), **dict(_loader_option(options.name, text) for text in options.set)},
    )
    say(describe(dataset))
    splits = {"train": dataset.train, **dataset.tests}
    split = options.split or "test"
    if split not in splits or not 0 <= options.case < len(splits[split]):
        raise ValueError(f"--split={split} --case={options.case} is no sample; the splits are listed above")
    path = options.out or Path(f"{options.name}.png")
    figure = draw_sample(dataset, split, options.case)
    figure.savefig(path, dpi=120)
    say(f"sample {options.case} of {split} drawn in {path}")


def _loader_option(name: str, text: str) -> tuple[str, Any]:
    """Return an option given as name=value, with the type of its default."""
    key, equals, value = text.partition("=")
    defaults = defaults_of(find_record(name).options)
    if not equals or key not in defaults:
        listed = ", ".join(defaults) or "none"
        raise ValueError(f"--set={text} is not understood; write name=value with a name among {listed}")
    default = defaults[key]
    try:
        return key, value.lower() in ("true", "1") if isinstance(default, bool) else type(default)(value)
    except ValueError as error:
        raise ValueError(f"--set={text} is not understood; {key} is {type(default).__name__}") from error


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m data_pipeline.inspect",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help=f"data set ({', '.join(DATASETS)}), or a file or folder of yours")
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="data root (default: %(default)s)")
    parser.add_argument("--n_train", type=integer(0), help="training samples to load (default: the published number)")
    parser.add_argument("--n_test", type=integer(0), help="test samples to load (default: the published number)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="option of the loader; also --config.data.OPTION=VALUE",
    )
    parser.add_argument("--split", default="", help="split of the drawn sample (default: test)")
    parser.add_argument("--case", type=integer(0), default=0, help="number of the drawn sample (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="figure (default: NAME.png)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
