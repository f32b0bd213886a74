"""Marching over the layers of parts from any step: flags of an evaluation, and where its results go."""

from pathlib import Path

from ml_collections import ConfigDict

from data_pipeline.registry import find_record
from experiments.errors import UserError
from experiments.program import Request

# The flags by which an evaluation asks for another march.
FLAGS = ("march_from", "teacher_forced")


def apply_flags(config: ConfigDict, request: Request) -> None:
    """Put --march_from and --teacher_forced into the configuration; raises UserError where they have no effect."""
    given = _given(request)
    if not given:
        return
    if request.mode != "eval" or find_record(config.data.name).kind != "layer_series":
        raise UserError(f"{given} is for --mode=eval of a run on printed parts layer by layer; leave it out")
    if request.own.get("march_from") is not None:
        config.task.first = request.own.get("march_from")
    config.task.teacher_forced = bool(request.own.get("teacher_forced")) or config.task.teacher_forced


def output_folder(request: Request, folder: Path) -> Path:
    """Return the folder of the results: that of the run, or one inside it where the flags ask for another march."""
    if not _given(request):
        return folder
    parts = ["march", *([] if request.own.get("march_from") is None else ["from", str(request.own.get("march_from"))])]
    inside = folder / "_".join([*parts, *(["teacher_forced"] if request.own.get("teacher_forced") else [])])
    inside.mkdir(exist_ok=True)
    return inside


def _given(request: Request) -> str:
    """Return the first of the flags that is given as it was written, or the empty string."""
    if request.own.get("march_from") is not None:
        return f"--march_from={request.own.get('march_from')}"
    return "--teacher_forced" if request.own.get("teacher_forced") else ""
