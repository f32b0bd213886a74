"""The program: find the run, read the samples, predict, write fields and errors."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from data_pipeline.custom.folder import FILES_OF_MANY, find_samples
from data_pipeline.custom.readers import Reference, read_contents
from data_pipeline.custom.sample import Contents, Sample, make_sample
from experiments import figures, program, workdir
from experiments.errors import UserError
from experiments.pdebench import models
from experiments.predict.errors import describe_errors, field_errors, mean_errors
from experiments.predict.output import Output
from experiments.predict.picture import draw_prediction, triangles_of
from experiments.predict.signature import Signature, fitting
from flare_jax import params as model_params
from flare_jax.convert.runs import read_run
from runtime.json_files import write_json

FLAGS = flags.FLAGS

Predict = Callable[[np.ndarray], np.ndarray]
# What may go wrong with one sample and leaves the others alone; the last is a device's lack of memory.
_OF_ONE_SAMPLE = (UserError, ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)


@dataclass
class Case:
    """One sample to predict: what its file holds, the arrays that count of it, and its prediction [N, C] by field."""

    reference: Reference
    contents: Contents
    points: str
    sample: Sample
    prediction: dict[str, np.ndarray] = field(default_factory=dict)


def main() -> None:
    """Predict what the flags ask for."""
    folder, source, target = (_path(name) for name in ("workdir", "input", "output"))
    config = workdir.load_run_config(folder)
    signature = _signature(folder, config)
    references = _references(source, config.data.get("files", ""))
    output = Output(references, source, target)
    errors, failures, first = {}, {}, None
    with program.matmul_precision(config), output:
        for case in _predicted(references, signature, output, config, folder, failures):
            found = field_errors(case.prediction, case.sample.targets, signature.spreads)
            if found:
                errors[case.reference.name] = found
            first = first or case
    _report(output, len(references) - len(failures), errors)
    if FLAGS.figure is not None and first is not None:
        _draw(first, signature, Path(FLAGS.figure))
    if failures:
        raise UserError(
            f"{len(failures)} of {len(references)} samples could not be predicted, for the reasons above: "
            f"{', '.join(failures)}; repair or remove them"
        )


def load_predictor(folder: Path, config: ConfigDict, signature: Signature, pads: bool) -> Predict:
    """Return `predict(features [N, C_in])` -> outputs [N, C_out], both encoded, of the run in `folder`.

    With `pads` the points are padded to few different numbers, so that few programs are compiled.
    """
    seed = _seed(config)
    run = read_run(folder / f"seed_{seed}" if len(config.train.seeds) > 1 else folder, FLAGS.step)
    weights = run.weights[run.choose(FLAGS.weights, folder)]
    options = workdir.recorded_model_options(folder)
    if options is None:  # a converted model, whose configuration has a value for every option
        options = models.model_options(config.model, models.nominal_facts(config.model))
    # On one device, whatever the run was trained on.
    config.mesh.data = config.mesh.points = 1
    model = models.build(config, options, signature.c_in, signature.c_out, seed)
    graphdef, expected = model_params.split(model)
    shapes = {name: value.shape for name, value in expected.items()}
    if shapes != {name: np.shape(value) for name, value in weights.items()}:
        raise UserError(f"the weights in {folder} do not fit its configuration; the folder was changed, train again")
    params = jax.device_put({name: weights[name] for name in shapes})
    apply = jax.jit(model_params.apply_fn(graphdef))
    # A model of one grid takes no other number of points.
    pads = pads and not options.get("grid_shape")

    def predict(features: np.ndarray) -> np.ndarray:
        count = len(features)
        length = padded_length(count) if pads else count
        mask = np.arange(length)[None] < count if pads else None
        x = np.pad(features, [(0, length - count), (0, 0)])[None]
        return np.asarray(apply(params, x, mask)[0, :count], np.float32)

    return predict


def padded_length(count: int) -> int:
    """Return the least of the numbers 4, 5, 6 and 7 times a power of two that is at least `count`."""
    unit = 1 << max(0, (count - 1).bit_length() - 3)
    return -(-count // unit) * unit


def _path(name: str) -> Path:
    if FLAGS[name].value is None:
        examples = {"workdir": "out/custom", "input": "mesh.vtu", "output": "pred.vtu"}
        raise UserError(f"--{name} is missing; for example --{name}={examples[name]}")
    return Path(FLAGS[name].value)


def _signature(folder: Path, config: ConfigDict) -> Signature:
    if program.program_of(config) != "pdebench":
        raise UserError(f"--workdir={folder} holds a run on token sequences; name a run on fields of a mesh")
    content = workdir.read_config_file(folder).get("prediction")
    if content is None:
        raise UserError(
            f"{folder} does not say what its model takes; predictions work for runs on steady fields: evaluate the run "
            f"once to add it, python -m experiments.pdebench --mode=eval --workdir={folder}"
        )
    return Signature.from_json(content)


def _seed(config: ConfigDict) -> int:
    seeds = tuple(config.train.seeds)
    if FLAGS.seed is not None and FLAGS.seed not in seeds:
        raise UserError(f"--seed={FLAGS.seed} is not among the seeds {seeds} of the run; choose one of them")
    return seeds[0] if FLAGS.seed is None else FLAGS.seed


def _references(source: Path, pattern: str = "") -> list[Reference]:
    """Return the samples to predict; of a folder those whose names fit the pattern of the training, if it had one."""
    if source.is_file() and source.suffix.lower() not in FILES_OF_MANY:
        return [Reference(source)]
    if source.exists():
        return [reference for split in find_samples(source, pattern).values() for reference in split]
    raise UserError(f"--input={source} does not exist; check the path")


def _predicted(
    references: list[Reference],
    signature: Signature,
    output: Output,
    config: ConfigDict,
    folder: Path,
    failures: dict[str, str],
) -> Iterator[Case]:
    """Read, predict and write every sample; one that cannot be goes into `failures`, unless it is the only one."""
    predict = None
    for reference in references:
        try:
            case = _read(reference, signature, output)
        except _OF_ONE_SAMPLE as error:
            _note(error, reference, failures, only=len(references) == 1)
            continue
        # The model is built when a sample is known to be readable: it takes longer, and its errors are those of all.
        predict = predict or load_predictor(folder, config, signature, pads=len(references) > 1)
        try:
            case.prediction = _predict(case, signature, predict)
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
    contents = read_contents(reference, cell_data=signature.channels.reads[0].cell_data)
    output.check_holds(reference, contents)
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


def _predict(case: Case, signature: Signature, predict: Predict) -> dict[str, np.ndarray]:
    prediction = signature.split(predict(signature.features(case.sample, case.reference)))
    for name, values in prediction.items():
        if not np.isfinite(values).all():
            raise UserError(
                f"the prediction of {name!r} for {case.reference} is not finite; its inputs are far outside of the "
                "training's, or the run diverged"
            )
    return prediction


def _written(case: Case) -> dict[str, np.ndarray]:
    """Return the fields to add to those of the input: predictions, and beside a truth the errors; [N] or [N, C]."""
    fields = {}
    for name, values in case.prediction.items():
        fields[f"{name}_predicted"] = values
        if name in case.sample.targets:
            fields[f"{name}_error"] = values - case.sample.targets[name]
    return {name: values[:, 0] if values.shape[1] == 1 else values for name, values in fields.items()}


def _draw(case: Case, signature: Signature, path: Path) -> None:
    places = case.sample.points[:, signature.channels.axes]
    triangles = triangles_of(case.contents, case.sample, case.points)
    figures.save(draw_prediction(case.sample.name, places, triangles, case.prediction, case.sample.targets), path)


def _report(output: Output, count: int, errors: Mapping[str, Any]) -> None:
    """Say what was written; where there was a truth, say the errors and write them beside the output."""
    target = output.path
    print("\n".join([f"{count} prediction{'' if count == 1 else 's'} in {target}", *output.remarks()]))
    if not errors:
        return
    path = target.with_suffix(".errors.json") if target.suffix else target / "errors.json"
    write_json(path, errors)
    print("\n".join(describe_errors(mean_errors(errors))))
    print(f"errors of {len(errors)} sample{'s' if len(errors) > 1 else ''} in {path}")
