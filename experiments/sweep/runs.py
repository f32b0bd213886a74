"""The runs of a study: their folders, by a hash of what they compute, their commands, and how far they are."""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from ml_collections import ConfigDict

from experiments import workdir
from experiments.cli import check_value, flatten, load_config
from experiments.errors import UserError
from experiments.lm.options import check_lm_options
from experiments.lra.options import check_lra_options
from experiments.model_options import program_of
from experiments.options import check_options
from experiments.sweep.points import check_changes, choose_points
from experiments.sweep.study import Labels, Measurement, Metrics, Part, Study
from experiments.training.records import read_log
from runtime.json_files import read_object, write_json

FAILURE, FINISHED, DEVICE_ERRORS = "failure.json", "finished.json", "device_errors.json"
Command = tuple[str, tuple[str, ...]]


class Run(Protocol):
    """One run of a study: `labels` say which, `folder` is its own, `seeds` how many it trains."""

    labels: Labels
    folder: Path

    def command(self) -> Command | None:
        """Return the program and the arguments that come next, None where all is done."""

    def ended(self, module: str) -> None:
        """Note that `module` has ended well."""

    def progress(self) -> float:
        """Return the share of the work that is done, as far as it is seen from outside."""

    def results(self) -> list[tuple[Labels, list[Metrics]]]:
        """Return labels and, for each finished seed, the numbers of every row."""

    def data(self) -> str:
        """Return what kind of data the run has, such as generated; "" where that is not known."""


@dataclass(frozen=True)
class TrainingRun:
    """A run of `experiments.pdebench`, `experiments.lra` or `experiments.lm` with all its seeds."""

    labels: Labels
    folder: Path
    config: ConfigDict
    arguments: tuple[str, ...]
    error: str
    analyze: bool
    collect: Mapping[str, str]

    def command(self) -> Command | None:
        """Return the training, then the analysis where the study wants one."""
        module = f"experiments.{program_of(self.config)}"
        if not all(_is_evaluated(folder) for folder in self._seed_folders()) or not self._is_summarised():
            return module, (*self.arguments, f"--workdir={self.folder}")
        if self.analyze and not all((folder / "analysis/test.json").is_file() for folder in self._seed_folders()):
            return module, ("--mode=analyze", f"--workdir={self.folder}")
        return None

    def ended(self, module: str) -> None:
        """Note nothing: what a training leaves says that it has ended."""

    def progress(self) -> float:
        """Return the mean over seeds of the share of the epochs or steps that their logs have reached."""
        shares = [1.0 if _is_evaluated(folder) else self._share(folder) for folder in self._seed_folders()]
        return sum(shares) / len(shares)

    def results(self) -> list[tuple[Labels, list[Metrics]]]:
        """Return one row with the seeds that are evaluated."""
        seeds = [self._metrics(folder) for folder in self._seed_folders() if _is_evaluated(folder)]
        return [(self.labels, seeds)]

    def data(self) -> str:
        """Return the kind of the data that the run has loaded."""
        try:
            return str(read_object(self.folder / workdir.CONFIG_FILE).get("data", {}).get("kind", ""))
        except (OSError, ValueError, AttributeError):
            return ""

    def _seed_folders(self) -> list[Path]:
        seeds = self.config.train.seeds
        return [self.folder] if len(seeds) == 1 else [self.folder / f"seed_{seed}" for seed in seeds]

    def _is_summarised(self) -> bool:
        return (self.folder / "eval.json").is_file()

    def _share(self, folder: Path) -> float:
        line = _last_line(folder / "metrics.jsonl")
        train = self.config.train
        done = line.get("epoch", 0) / train.epochs if train.epochs else line.get("step", 0) / train.steps
        return min(max(float(done), 0.0), 1.0)

    def _metrics(self, folder: Path) -> Metrics:
        summary = read_object(folder / "eval.json")
        timing = _timing(folder)
        together = timing.get("parallel_seeds", 1)
        for name in (self.error, *self.collect.values()):
            if name not in summary:
                raise UserError(f"{folder / 'eval.json'} has no {name!r}, which the study collects; correct the study")
        split, _, metric = self.error.partition("/")
        kind = "accuracy" if metric.endswith("accuracy") else "error"
        found = {
            kind: summary[self.error],
            f"train_{kind}": summary.get(f"train/{metric}"),
            "parameters": summary["parameters"],
            # Of seeds that were trained together, the share of one.
            **{name: timing[name] / together for name in ("step_ms", "epoch_s")},
            "train_s": 1e-3 * timing["step_ms"] * timing["step"] / together,
            "compile_s": timing["compile_s"],
            "together": together,
            "peak_gib": timing["peak_bytes"] / 2**30 if "peak_bytes" in timing else None,
            **_ranks(folder / f"analysis/{split}.json"),
            **{key: one for name, of in self.collect.items() for key, one in _numbers(name, summary[of]).items()},
        }
        return {name: float(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class MeasuringRun:
    """A run of another program."""

    labels: Labels
    folder: Path
    part: Measurement

    def command(self) -> Command | None:
        """Return the program until it has ended well."""
        if (self.folder / FINISHED).is_file():
            return None
        return self.part.module, tuple(text.replace("{folder}", str(self.folder)) for text in self.part.arguments)

    def ended(self, module: str) -> None:
        """Note that the program has ended well."""
        write_json(self.folder / FINISHED, {"module": module})

    def progress(self) -> float:
        """Return 1 for a program that has ended, else 0."""
        return float((self.folder / FINISHED).is_file())

    def results(self) -> list[tuple[Labels, list[Metrics]]]:
        """Return the rows that the program has left."""
        found = self.part.read(self.folder) if self.folder.is_dir() else []
        return [(labels, [metrics]) for labels, metrics in found]

    def data(self) -> str:
        """Return nothing: a measurement needs no data."""
        return ""


def plan_runs(
    study: Study,
    out: Path,
    seeds: tuple[int, ...] | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
    where: Mapping[str, Sequence[str]] = MappingProxyType({}),
    *,
    data_dir: str | None = None,
    together: int = 0,
) -> list[Run]:
    """Return the runs of a study in folders below `out`, those of `where` only ({column: values}), in their order.

    `seeds` replace those of the study and its parts, and `together` of them (0: all) are trained in one program where a
    config can; `changes` are options for all training runs. Equal runs, also those of other studies, have the same
    folder. Raises UserError for options that a config has not, that cannot be, or that would make labels false.
    """
    points = choose_points(study, where)
    check_changes(study, where, changes)
    runs: list[Run] = []
    for point in points:
        part = point.part
        if isinstance(part, Measurement):
            name = f"{part.module.rpartition('.')[2]}-{_hash([part.module, *part.arguments])}"
            runs.append(MeasuringRun(point.labels, out / "runs" / name, part))
            continue
        own = {"train.seeds": study.seeds, **point.options}
        given = {**own, **({"train.seeds": seeds} if seeds else {}), **changes}
        runs.append(_training_run(study, part, point.labels, given, out / "runs", data_dir, together))
    return runs


def _training_run(
    study: Study,
    part: Part,
    labels: Labels,
    options: Mapping[str, Any],
    out: Path,
    data_dir: str | None,
    together: int,
) -> TrainingRun:
    config = load_config(part.config)
    known = flatten(config)
    count = len(options["train.seeds"])
    # Data that may be streamed are read by each seed in another order.
    in_memory = config.data.get("stream", "never") == "never"
    if in_memory and count > 1:
        options = {"train.parallel_seeds": min(together or count, count), **options}
    for name, value in options.items():
        if name not in known:
            raise UserError(
                f"study {study.name}: {part.config} has no option {name}; see --config={part.config} --help"
            )
        check_value(name, str(value), known[name])
        try:
            # Text that reads as a number.
            config.update_from_flattened_dict({name: str(value) if isinstance(known[name], str) else value})
        except (TypeError, ValueError) as error:
            raise UserError(f"study {study.name}: option {name}={value!r} does not fit ({error})") from error
    checks = {"lra": check_lra_options, "lm": check_lm_options}
    checks.get(program_of(config), check_options)(config, options)
    arguments = [f"--config={part.config}", *(f"--config.{name}={_as_text(value)}" for name, value in options.items())]
    # What runs draw and compare for themselves, a study does for all of them, where it does not ask for it.
    own = [name for name in ("figures", "eval.simple_predictors") if name in known and name not in options]
    arguments += [f"--config.{name}=False" for name in own]
    arguments += [*([] if data_dir is None else [f"--data_dir={data_dir}"])]
    folder = out / f"{config.data.name}_{config.model.type}-{_hash(workdir.computed_options(config))}"
    return TrainingRun(labels, folder, config, tuple(arguments), study.error, study.analyze, part.collect)


def read_value(text: str) -> Any:
    """Return the value that an option is given as text: a Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def _numbers(name: str, value: Any) -> dict[str, float]:
    """Return a number of a report under `name`, or several under names with their places or keys; null is none."""
    several = value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, Sequence) else {}
    found = {f"{name}_{key}": one for key, one in several.items()} if several else {name: value}
    return {key: one for key, one in found.items() if one is not None}


def _is_evaluated(folder: Path) -> bool:
    """Tell whether the run in `folder` has trained all its steps and its report is that of their end."""
    try:
        return read_object(folder / "eval.json").get("step") == _timing(folder)["step"]
    except (OSError, ValueError, KeyError):
        return False


def _timing(folder: Path) -> Mapping[str, Any]:
    """Return the line of the log that the end of training wrote, empty where there is none."""
    lines = [line for line in read_log(folder / "metrics.jsonl", lambda text: None) if line["event"] == "timing"]
    return lines[-1] if lines else {}


def _last_line(path: Path) -> Mapping[str, Any]:
    """Return the last whole line of a log, without reading all of it; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 2**14))
            lines = file.read().split(b"\n")[:-1]
        return next((json.loads(line) for line in reversed(lines) if b'"epoch"' in line), {})
    except (OSError, ValueError):
        return {}


def _ranks(path: Path) -> dict[str, float]:
    """Return the effective ranks of the blocks, means over heads, and their mean, where there is an analysis."""
    if not path.is_file():
        return {}
    blocks = [sum(block["effective_rank"]) / len(block["effective_rank"]) for block in read_object(path)["blocks"]]
    ranks = {f"effective_rank_{number}": rank for number, rank in enumerate(blocks)}
    return {"effective_rank": sum(blocks) / len(blocks), **ranks}
