"""Which runs of which study a command line asks for: --study, --set and --where."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from experiments.errors import UserError
from experiments.sweep.runs import Run, plan_runs, read_value
from experiments.sweep.study import Study, load_study

FLAGS = flags.FLAGS


class Selection(NamedTuple):
    """A study, options for all its trainings, and which values of columns are wanted."""

    study: Study
    changes: Mapping[str, Any]
    where: Mapping[str, Sequence[str]]

    def plan(self, out: Path, seeds: tuple[int, ...] | None, **options: Any) -> list[Run]:
        """Return the runs, planned as by `plan_runs`; raises UserError where there is none."""
        runs = plan_runs(self.study, out, seeds, self.changes, self.where, **options)
        if not runs:
            asked = " ".join(f"--where={column}={'|'.join(values)}" for column, values in self.where.items())
            raise UserError(f"study {self.study.name} has no run with {asked}; choose others")
        return runs


def define_selection() -> None:
    """Define the flags."""
    flags.DEFINE_string("study", None, "Study file, with :smoke for its small variant; those of the project: studies/.")
    flags.DEFINE_multi_string("set", [], "OPTION=VALUE for all trainings, such as train.epochs=20; may be repeated.")
    flags.DEFINE_multi_string("where", [], "COLUMN=VALUE|VALUE...: only these runs; may be repeated.")


def read_selection() -> Selection:
    """Return what the flags say; raises UserError where they are not understood."""
    if FLAGS.study is None:
        raise UserError("--study=FILE is missing; for example --study=studies/num_blocks.py")
    study = load_study(FLAGS.study)
    changes = {name: read_value(value) for name, value in _pairs("set", FLAGS.set)}
    for name in {"train.seeds", "train.parallel_seeds"} & changes.keys():
        flag = name.removeprefix("train.")
        remedy = f"write --{flag}={changes[name]}" if flag in FLAGS else "leave it out"
        raise UserError(f"--set={name} would replace what the study has of seeds; {remedy}")
    return Selection(
        study, changes, {column: tuple(values.split("|")) for column, values in _pairs("where", FLAGS.where)}
    )


def _pairs(flag: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, value) of every NAME=VALUE; raises UserError for anything else, and for a name given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            example = "train.epochs=20" if flag == "set" else "num_blocks=4|8"
            raise UserError(f"--{flag}={text} is not understood; write such as --{flag}={example}")
        if name in found:
            remedy = f'write --{flag}="{name}={found[name]}|{value}"' if flag == "where" else "leave one of them out"
            raise UserError(f"--{flag}={name} is given twice, as {found[name]} and as {value}; {remedy}")
        found[name] = value
    return list(found.items())
