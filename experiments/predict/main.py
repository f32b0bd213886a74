"""The program: find the run, read the samples, predict, write fields and errors."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from data_pipeline import vtk
from data_pipeline.custom.folder import find_samples, holds_many
from data_pipeline.custom.integrals import parse_integrals
from data_pipeline.custom.readers import Reference, read_contents
from data_pipeline.custom.regions import regions_of
from data_pipeline.custom.sample import Contents, Sample, make_sample
from data_pipeline.errors import DataError
from experiments import figures, workdir
from experiments.errors import UserError
from experiments.integral_report import Value, values_of
from experiments.predict.errors import describe_errors, field_errors, mean_errors
from experiments.predict.graph import edges_of
from experiments.predict.output import Output
from experiments.predict.parts import is_surface_of_part, voxelised, with_distances
from experiments.predict.picture import draw_prediction, triangles_of
from experiments.predict.reports import beside, report_integrals, report_range
from experiments.predict.rollout import ROLLOUT, predict_series, refuse_other_rollouts
from experiments.predict.series import is_of_series, march_parts
from experiments.predict.signature import Signature
from experiments.predict.spread import load_seeds, read_calibration, say_which_seed
from experiments.predict.steps import Steps
from experiments.predict.training_range import Judgement, TrainingRange
from flare_jax import Ensemble, Surrogate, load
from flare_jax.convert.trained import read_prediction
from flare_jax.field_codec import fitting
from runtime.json_files import write_json

FLAGS = flags.FLAGS

Predicted = dict[str, np.ndarray]
# What may go wrong with one sample and leaves the others alone; the last is a device's lack of memory.
_OF_ONE_SAMPLE = (UserError, ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)


@dataclass
class Case:
    """One sample to predict: what its file holds, the arrays that count of it, and its prediction [N, C] by field.

    Of several seeds that is their mean, beside their standard deviation.
    """

    reference: Reference
    contents: Contents
    points: str
    sample: Sample
    prediction: dict[str, np.ndarray] = field(default_factory=dict)
    deviation: dict[str, np.ndarray] = field(default_factory=dict)


def main() -> None:
    """Predict what the flags ask for."""
    folder, source, target = (_path(name) for name in ("workdir", "input", "output"))
    if FLAGS.figure is not None and Path(FLAGS.figure).suffix.lower() not in (".png", ".gif"):
        raise UserError(f"--figure={FLAGS.figure} must end in .png, or for a series in .gif; rename it")
    pieces = _pieces()
    if is_of_series(folder):
        if pieces:
            raise UserError(
                f"--points_per_piece={pieces}, but a run on printed parts layer by layer predicts all points at once; "
                "leave it out"
            )
        say_which_seed(folder, FLAGS.seed)
        march_parts(folder, source, target, step=FLAGS.step, seed=FLAGS.seed, weights=FLAGS.weights)
        return
    refuse_other_rollouts(folder)
    known = read_prediction(folder)
    if ROLLOUT in known:
        say_which_seed(folder, FLAGS.seed)
        surrogate = load(folder, step=FLAGS.step, seed=FLAGS.seed, weights=FLAGS.weights)
        surrogate.check_pieces(pieces)
        figure = None if FLAGS.figure is None else Path(FLAGS.figure)
        predict = partial(surrogate.predict, pad=False, points_per_piece=pieces)
        predict_series(predict, known, source, target, _pattern(folder), figure)
        return
    signature = Signature.from_json(known)
    trained_on = TrainingRange.from_json(known["training_range"]) if "training_range" in known else None
    references = _references(source, _pattern(folder), _in_time(folder))
    output = Output(references, source, target)
    animated = FLAGS.figure is not None and FLAGS.figure.lower().endswith(".gif")
    steps = Steps(animated)
    if animated and not any(one.series for one in references):
        raise UserError(f"--figure={FLAGS.figure} is an animation, but {source} is no series; choose a .png file")
    errors, failures, judgements, values, first = {}, {}, {}, [], None
    calibration = read_calibration(folder)
    with output:
        for case in _predicted(references, signature, output, folder, failures):
            found = field_errors(case.prediction, case.sample.targets, signature.spreads)
            if case.deviation:
                for name, share in calibration.coverage(case.prediction, case.deviation, case.sample.targets).items():
                    found[name]["coverage_90"] = share
            if found:
                errors[case.reference.name] = found
            if trained_on is not None:
                judgements[case.reference.name] = _judge(case, signature, trained_on)
            values += _integrals(case, known.get("integrals"))
            steps.add(case.reference, output.place(case.reference), case.contents, case.sample, case.prediction)
            first = first or case
    _report(output, len(references) - len(failures), errors)
    if first is not None and first.deviation:
        print(calibration.describe(folder))
    report_range(output.path, judgements)
    report_integrals(output.path, values)
    if len(references) > 1 and not target.suffix:
        steps.write_collections(output.path)
    if animated:
        steps.animate(Path(FLAGS.figure), signature.channels.axes)
    elif FLAGS.figure is not None and first is not None:
        _draw(first, signature, Path(FLAGS.figure))
    if failures:
        raise UserError(
            f"{len(failures)} of {len(references)} samples could not be predicted, for the reasons above: "
            f"{', '.join(failures)}; repair or remove them"
        )


def _path(name: str) -> Path:
    if FLAGS[name].value is None:
        examples = {"workdir": "out/custom", "input": "mesh.vtu", "output": "pred.vtu"}
        raise UserError(f"--{name} is missing; for example --{name}={examples[name]}")
    return Path(FLAGS[name].value)


def _pieces() -> int | None:
    pieces = FLAGS.points_per_piece
    if pieces is not None and pieces < 0:
        raise UserError(f"--points_per_piece={pieces} must not be negative; 0 predicts all points at once")
    return pieces


def _pattern(folder: Path) -> str:
    """Return the pattern that names of sample files fitted in training; a saved surrogate does not know it."""
    known = (folder / workdir.CONFIG_FILE).is_file()
    return workdir.load_run_config(folder).data.get("files", "") if known else ""


def _in_time(folder: Path) -> bool:
    """Return whether the files of a case were steps of a series in training."""
    known = (folder / workdir.CONFIG_FILE).is_file()
    return known and bool(workdir.load_run_config(folder).data.get("time", ""))


def _references(source: Path, pattern: str = "", in_time: bool = False) -> list[Reference]:
    """Return the samples to predict; of a folder those whose names fit the pattern of the training, if it had one."""
    if source.is_file() and not holds_many(source):
        return [Reference(source)]
    if source.exists():
        return [reference for split in find_samples(source, pattern, in_time).values() for reference in split]
    raise UserError(f"--input={source} does not exist; check the path")


def _predicted(
    references: list[Reference],
    signature: Signature,
    output: Output,
    folder: Path,
    failures: dict[str, str],
) -> Iterator[Case]:
    """Read, predict and write every sample; one that cannot be goes into `failures`, unless it is the only one."""
    surrogate = None
    for reference in references:
        try:
            case = _read(reference, signature, output)
        except _OF_ONE_SAMPLE as error:
            _note(error, reference, failures, only=len(references) == 1)
            continue
        # The model is read when a sample is known to be readable: it takes longer, and its errors are those of all.
        if surrogate is None:
            surrogate = load_seeds(folder, FLAGS.step, FLAGS.seed, FLAGS.weights)
            surrogate.check_pieces(FLAGS.points_per_piece)
        try:
            case.prediction, case.deviation = _predict(case, surrogate, pads=len(references) > 1)
            output.write(reference, case.contents, case.points, case.sample.cells, _written(case))
        except _OF_ONE_SAMPLE as error:
            _note(error, reference, failures, only=len(references) == 1)
            continue
        yield case


def _note(error: Exception, reference: Reference, failures: dict[str, str], only: bool) -> None:
    if only:
        raise error
    failures[reference.name] = " ".join(str(error).split())
    print(f"failed: {reference}: {failures[reference.name]}", file=sys.stderr, flush=True)


def _read(reference: Reference, signature: Signature, output: Output) -> Case:
    reads = signature.channels.reads[0]
    if is_surface_of_part(reference, reads):
        contents = voxelised(reference)
    else:
        contents = read_contents(reference, cell_data=reads.cell_data)
    output.check_holds(reference, contents)
    contents = with_distances(contents, signature, str(reference))
    fields = signature.fields(contents.present)
    sample = make_sample(reference.name, contents, fields, str(reference), targets_wanted=False)
    if contents.unreadable:
        print(f"{reference}: the arrays {', '.join(contents.unreadable)} hold no numbers or text and are not copied")
    widths = signature.channels.targets
    truths = {name: fitting(values, widths[name]) for name, values in sample.targets.items()}
    wrong = next((name for name, values in truths.items() if values.shape[1] != widths[name]), None)
    if wrong is not None:
        raise UserError(
            f"{reference} has {truths[wrong].shape[1]} channels of {wrong!r} where the model predicts {widths[wrong]}; "
            "leave the array out or store it like in training"
        )
    return Case(reference, contents, fields.points, replace(sample, targets=truths))


def _predict(case: Case, surrogate: Surrogate | Ensemble, pads: bool) -> tuple[Predicted, Predicted]:
    """Return the predicted fields and, of several seeds, their standard deviations."""
    sample, where = case.sample, str(case.reference)
    options = {"pad": pads, "points_per_piece": FLAGS.points_per_piece, "name": where}
    edges = edges_of(case.contents, sample.cells, sample.points, surrogate.edge_rows, where)
    prediction = surrogate.predict(sample.points, sample.inputs, edges=edges, **options)
    prediction, deviation = prediction if isinstance(surrogate, Ensemble) else (prediction, {})
    for name, values in prediction.items():
        if not np.isfinite(values).all():
            raise UserError(
                f"the prediction of {name!r} for {case.reference} is not finite; its inputs are far outside of the "
                "training's, or the run diverged"
            )
    return prediction, deviation


def _judge(case: Case, signature: Signature, trained_on: TrainingRange) -> Judgement:
    encoded = signature.codec.encode(case.sample.points, case.sample.inputs, str(case.reference))
    return trained_on.judge(encoded, signature.codec)


def _integrals(case: Case, content: Mapping[str, Any] | None) -> list[Value]:
    """Return the integrals of a sample that the run reports, none where its mesh or marks are not there."""
    if content is None:
        return []
    wanted = parse_integrals(content["wanted"])
    try:
        weights = regions_of(wanted, case.sample, case.contents, str(case.reference)).weights()
    except DataError as error:
        print(f"no integrals: {error}")
        return []
    fields = (case.prediction, case.sample.targets)
    return list(values_of(case.reference.name, wanted, weights, *fields, reference=content["reference"]))


def _written(case: Case) -> dict[str, np.ndarray]:
    """Return the fields to add to those of the input: predictions, and beside a truth the errors; [N] or [N, C].

    Of several seeds they are means, beside the standard deviations.
    """
    fields = {}
    for name, values in case.prediction.items():
        fields[f"{name}_predicted"] = values
        if name in case.deviation:
            fields[f"{name}_std"] = case.deviation[name]
        if name in case.sample.targets:
            fields[f"{name}_error"] = values - case.sample.targets[name]
    return {name: values[:, 0] if values.shape[1] == 1 else values for name, values in fields.items()}


def _draw(case: Case, signature: Signature, path: Path) -> None:
    points, cells = case.sample.points, None
    if case.contents.at_centres:
        corners, triangles, cells = vtk.surface_of_cells(case.contents.mesh)
        # Cells without a surface, such as lines, are drawn as their centres.
        points, triangles, cells = (corners, triangles, cells) if len(triangles) else (points, None, None)
    else:
        triangles = triangles_of(case.contents, case.sample, case.points)
    places, name = points[:, signature.channels.axes], case.sample.name
    figures.save(draw_prediction(name, places, triangles, case.prediction, case.sample.targets, cells), path)


def _report(output: Output, count: int, errors: Mapping[str, Any]) -> None:
    """Say what was written; where there was a truth, say the errors and write them beside the output."""
    target = output.path
    print("\n".join([f"{count} prediction{'' if count == 1 else 's'} in {target}", *output.remarks()]))
    if not errors:
        return
    path = beside(target, "errors")
    write_json(path, errors)
    print("\n".join(describe_errors(mean_errors(errors))))
    print(f"errors of {len(errors)} sample{'s' if len(errors) > 1 else ''} in {path}")
