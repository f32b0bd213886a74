"""The program: find the run, read the samples, predict, write fields and errors."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from data_pipeline.custom.folder import find_samples
from data_pipeline.custom.readers import HDF5_SUFFIXES, Reference, read_sample
from data_pipeline.custom.sample import Sample
from data_pipeline.custom.writers import check_writable, write_fields, write_group
from experiments import figures, program, workdir
from experiments.errors import UserError
from experiments.pdebench import models
from experiments.predict.errors import describe_errors, field_errors, mean_errors
from experiments.predict.picture import draw_prediction
from experiments.predict.signature import Signature, fitting
from flare_jax import params as model_params
from flare_jax.convert.runs import read_run

FLAGS = flags.FLAGS

Predict = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Predict what the flags ask for."""
    folder, source, target = (_path(name) for name in ("workdir", "input", "output"))
    config = workdir.load_run_config(folder)
    signature = _signature(folder, config)
    references = _references(source, target)
    # The first is read before the model is built, which takes longer.
    read_sample(references[0], signature.fields(), targets_wanted=False)
    predict = load_predictor(folder, config, signature, pads=len(references) > 1)
    errors = {}
    with program.matmul_precision(config), _Output(target, len(references) > 1, references[0].path.suffix) as output:
        for reference, sample, prediction in _predicted(references, signature, predict):
            output.write(reference.name, sample, _written(sample, prediction))
            if sample.targets:
                errors[reference.name] = field_errors(prediction, sample.targets)
            if FLAGS.figure is not None and reference is references[0]:
                figures.save(draw_prediction(sample, signature.axes, prediction), Path(FLAGS.figure))
    _report(target, len(references), errors)


def load_predictor(folder: Path, config: ConfigDict, signature: Signature, pads: bool) -> Predict:
    """Return `predict(features [N, C_in])` -> outputs [N, C_out], both encoded, of the run in `folder`.

    With `pads` the points are padded to few different numbers, so that few programs are compiled.
    """
    seed = _seed(config)
    run = read_run(folder / f"seed_{seed}" if len(config.train.seeds) > 1 else folder, FLAGS.step)
    weights = run.weights.get(config.eval.weights, run.weights["raw"])
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


def _references(source: Path, target: Path) -> list[Reference]:
    """Return the samples to predict, after checking that they can be written to `target`."""
    if source.is_file() and source.suffix.lower() not in HDF5_SUFFIXES:
        references = [Reference(source)]
    elif source.exists():
        references = [reference for split in find_samples(source).values() for reference in split]
    else:
        raise UserError(f"--input={source} does not exist; check the path")
    if len(references) == 1 or target.suffix.lower() in HDF5_SUFFIXES:
        check_writable(target)
    elif target.suffix:
        raise UserError(
            f"--output={target} is one file, but --input={source} holds {len(references)} samples; name a folder or an "
            "HDF5 file"
        )
    taken = {source, *(one.path for one in references)}
    if source.is_dir():
        # Predictions have the names of the files that they are made from, and would replace them there.
        taken |= {one.path.parent for one in references}
    if target.resolve() in {path.resolve() for path in taken}:
        raise UserError(f"--output={target} is the input itself; choose another name")
    _refuse_equal_names(references)
    return references


def _refuse_equal_names(references: list[Reference]) -> None:
    """Raise UserError where two samples would be written under one name."""
    known: dict[str, Reference] = {}
    for reference in references:
        other = known.setdefault(reference.name, reference)
        if other is not reference:
            raise UserError(
                f"{other} and {reference} are both named {reference.name!r}, under which their predictions would "
                "replace each other; rename one, or predict their folders or files one by one"
            )


def _predicted(
    references: list[Reference], signature: Signature, predict: Predict
) -> Iterator[tuple[Reference, Sample, dict[str, np.ndarray]]]:
    for reference in references:
        sample = read_sample(reference, signature.fields(), targets_wanted=False)
        truths = {name: fitting(sample.targets[name], signature.targets[name]) for name in sample.targets}
        sample = replace(sample, targets=truths)
        prediction = signature.split(predict(signature.features(sample, reference)))
        for name, truth in sample.targets.items():
            if truth.shape != prediction[name].shape:
                raise UserError(
                    f"{reference} has {truth.shape[1]} channels of {name!r} where the model predicts "
                    f"{prediction[name].shape[1]}; leave the array out or store it like in training"
                )
        yield reference, sample, prediction


def _written(sample: Sample, prediction: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the fields of the output: inputs, predictions, and beside a known truth the errors; [N] or [N, C]."""
    fields = dict(sample.inputs)
    for name, values in prediction.items():
        fields[f"{name}_predicted"] = values
        if name in sample.targets:
            fields |= {name: sample.targets[name], f"{name}_error": values - sample.targets[name]}
    return {name: values[:, 0] if values.shape[1] == 1 else values for name, values in fields.items()}


class _Output:
    """Where predictions go: a file, a folder of files like the input's, or the groups of an HDF5 file."""

    def __init__(self, target: Path, several: bool, suffix: str) -> None:
        self._target, self._several, self._suffix = target, several, suffix
        self._file: h5py.File | None = None

    def __enter__(self) -> "_Output":
        if self._several and self._target.suffix:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._file = h5py.File(self._target, "w")
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, name: str, sample: Sample, fields: Mapping[str, np.ndarray]) -> None:
        content = (sample.points, sample.cells, fields)
        if self._file is not None:
            write_group(self._file.create_group(name), *content)
        elif self._several:
            write_fields(self._target / f"{name}{self._suffix}", *content)
        else:
            write_fields(self._target, *content)


def _report(target: Path, count: int, errors: Mapping[str, Any]) -> None:
    """Say what was written; where there was a truth, say the errors and write them beside the output."""
    print(f"{count} prediction{'s' if count > 1 else ''} in {target}")
    if not errors:
        return
    path = target.with_suffix(".errors.json") if target.suffix else target / "errors.json"
    path.write_text(json.dumps(errors, indent=2) + "\n")
    print("\n".join(describe_errors(mean_errors(errors))))
    print(f"errors of {len(errors)} sample{'s' if len(errors) > 1 else ''} in {path}")
