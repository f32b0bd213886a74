"""Causal FLARE beside gated linear attention and a transformer: bits per byte at equal tokens, and what they cost.

    python -m experiments.sweep --study=studies/language.py:shakespeare --minutes=8
    python -m experiments.sweep --study=studies/language.py:costs --minutes=8
    python -m experiments.sweep --study=studies/language.py:python --minutes=8
    python -m experiments.sweep --study=studies/language.py:novels --minutes=8

The same command goes on where its time was over. About 15M parameters, rows of 1024 bytes, two seeds, one schedule for
all; the novels of four authors, and two packages of the Python source, are held out. Without a variant all of it is
done, what tells most first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.cli import ROOT
from experiments.sweep.figures import Bars
from experiments.sweep.rows import Row
from experiments.sweep.study import Measurement, Part, Study
from runtime.json_files import read_object

# By name, what is trained: a model of configs/lm.py, and options. Their parameters differ by 1 %.
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    # A narrower MLP for its more maps.
    "recommended": ("recommended", {"model.mlp_width": 864}),
    "transformer": ("transformer", {}),
    "gla": ("gla", {}),
    # The map that it lacks, as a wider MLP.
    "published": ("published", {"model.mlp_width": 1152}),
    # Convolutions that bind neighbours, as the recommended model has.
    "transformer_conv": ("transformer", {"model.short_conv": True}),
    # What the gate of its output brings to the recommended model.
    "recommended_no_gate": ("recommended", {"model.out_gate": False, "model.mlp_width": 1008}),
}
TEXTS: Mapping[str, Mapping[str, Any]] = {
    "shakespeare": {
        "data.path": "data/tinyshakespeare/input.txt",
        "data.val_share": 0.05,
        "data.test_share": 0.1,
        "train.batch_size": 32,
        # Epochs: stops at steps would cut them into chunks of several lengths, each a program to compile.
        "train.epochs": 12,
        "train.steps": 0,
        "model.dropout": 0.2,
    },
    "python": {
        "data.path": "data/python",
        "data.files": "*.py",
        "data.test": "sympy/physics/*",
        "data.val": "sympy/stats/*",
        # A multiple of the batches between two stops: all chunks have one length.
        "data.n_train": 20_480,
        "train.batch_size": 64,
        "train.steps": 640,
        "eval.every": 320,
        "checkpoint.every": 32,
    },
    "novels": {
        "data.path": "data/novels",
        "data.files": "corpus/*.txt",
        "data.test": "*/Gissing*,*/Woolf*",
        "data.val": "*/Forster*,*/Schreiner*",
        "data.n_train": 69_120,
        "train.batch_size": 64,
        "train.steps": 1500,
        "eval.every": 150,
        "checkpoint.every": 30,
    },
}
VARIANTS = (*TEXTS, "costs", "smoke")
_TRAINED = ("error", "train_error", "parameters", "step_ms")
_DECODED = ("token_ms", "state_mib", "peak_gib")


@dataclass(frozen=True)
class BitsPerByte:
    """Bars of the trained models, a panel per text."""

    def draw(self, title: str, rows: Sequence[Row]) -> Figure:
        """Return the figure of the rows."""
        return Bars(bars="model", panels="text").draw(title, [row for row in rows if row.labels.get("text")])


def get_study(variant: str) -> Study:
    """Return the study, or one of its parts: a text, or `costs`; `smoke` has a tiny model on the text of this file."""
    if variant and variant not in VARIANTS:
        raise ValueError(f"study variant {variant!r} is not known; choose {', '.join(VARIANTS)} or none")
    parts, metrics = _parts_of(variant)
    return Study(
        name="language",
        title="Language models of about 15M parameters (error: bits per byte)",
        columns=("text", "model", "part", "context", "batch"),
        parts=parts,
        figures={} if variant == "costs" else {"language": BitsPerByte()},
        seeds=(0,) if variant == "smoke" else (0, 1),
        error="test/bits_per_byte",
        metrics=metrics,
    )


def _parts_of(variant: str) -> tuple[tuple[Part | Measurement, ...], tuple[str, ...]]:
    """Return the runs of a variant and the metrics of its tables."""
    costs = (_costs("decode"), _costs("train"))
    match variant:
        case "smoke":
            return (_tiny(), _costs("decode", *_TINY_COSTS)), (*_TRAINED, *_DECODED)
        case "costs":
            return costs, ("step_ms", "tokens_per_s", *_DECODED)
        case "":
            parts = (*_trainings("shakespeare"), *costs, *_trainings("python"), *_trainings("novels"))
            return parts, (*_TRAINED, "tokens_per_s", *_DECODED)
        case _:
            return _trainings(variant), _TRAINED


def _trainings(text: str) -> tuple[Part, ...]:
    # One seed after the other, so that times are those of a training.
    common = {**TEXTS[text], "train.parallel_seeds": 1}
    return tuple(
        Part(
            config=f"configs/lm.py:model={model},size=15M",
            options={**common, **options},
            labels={"text": text, "model": name},
        )
        for name, (model, options) in MODELS.items()
    )


def _tiny() -> Part:
    options = {"data.path": str(ROOT / "studies" / "language.py"), "train.steps": 5, "figures": False}
    labels = {"text": "this file", "model": "published"}
    return Part(config="configs/lm.py:model=published,size=tiny,smoke", options=options, labels=labels)


_TINY_COSTS = (
    "--size=recall32", "--models=published", "--decode_contexts=32", "--batches=1", "--burst=2", "--repeats=1",
    "--dtype=float32", "--any_device",
)  # fmt: skip


def _costs(part: str, *more: str) -> Measurement:
    arguments = ("--output={folder}/costs.json", "--resume", f"--parts={part}", *more)
    return Measurement(module="benchmarks.causal_lm", arguments=arguments, read=read_costs, labels={"part": part})


def read_costs(folder: Path) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Return labels and numbers of what `benchmarks.causal_lm` has measured."""
    path = folder / "costs.json"
    rows = read_object(path)["results"] if path.is_file() else []
    named = ("part", "model", "context", "batch")
    return [
        ({name: row[name] for name in named if name in row}, {n: v for n, v in row.items() if _is_metric(n, v, named)})
        for row in rows
    ]


def _is_metric(name: str, value: Any, named: tuple[str, ...]) -> bool:
    return name not in named and isinstance(value, int | float)
