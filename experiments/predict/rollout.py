"""Rollouts with a run on a user's own series: from the first step of a mesh to as many as the training had.

The model of such a run is one of steady fields, as config.json describes it: it takes the state beside the inputs, each
field under the name `FIELD before`, and gives the increments of the fields to the next step.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline.custom.folder import find_samples, holds_many
from data_pipeline.custom.integrals import parse_integrals
from data_pipeline.custom.readers import Reference, read_contents
from data_pipeline.custom.rollout import DISPLACEMENT, Series, read_series, regions_of_start
from data_pipeline.custom.sample import Cells, Contents, Fields, make_sample
from data_pipeline.custom.series import joined
from data_pipeline.custom.writers import holding_fields, write_collection, write_contents
from data_pipeline.dataset import PDEDataset
from data_pipeline.errors import DataError
from data_pipeline.vtk import MESH_SUFFIXES
from experiments import workdir
from experiments.errors import UserError
from experiments.frame_figures import save_animation
from experiments.integral_report import Value, values_of_steps
from experiments.predict.errors import describe_errors, field_errors, mean_errors
from experiments.predict.reports import report_integrals, report_range
from experiments.predict.signature import Signature, fields_to_json
from experiments.predict.training_range import Judgement, TrainingRange
from flare_jax.field_codec import FieldCodec, fitting
from runtime.json_files import write_json

Predict = Callable[..., dict[str, np.ndarray]]
ROLLOUT = "rollout"
_BEFORE = "{} before"


def rollout_prediction(dataset: PDEDataset) -> dict[str, Any] | None:
    """Return the content of config.json for a model of own series, None for other data."""
    if dataset.kind != "mesh_series" or dataset.channels is None:
        return None
    channels, state, steps = dataset.channels, dataset.y_normalizer, dataset.increment_normalizer
    scales = np.asarray(channels.scales, np.float64)
    codec = FieldCodec(
        tuple(channels.axes),
        {**channels.inputs, **{_BEFORE.format(name): width for name, width in channels.targets.items()}},
        dict(channels.targets),
        np.concatenate([dataset.x_normalizer.mean, (state.mean + dataset.offset) * scales]),
        np.concatenate([dataset.x_normalizer.std, state.std * scales]),
        steps.mean,
        steps.std,
        scales,
    )
    rollout = {
        "steps": len(dataset.times),
        "time_step": float(np.diff(dataset.times)[0]),
        "prescribed": dataset.source.detail["prescribed"],
    }
    return {**codec.to_json(), "reads": [fields_to_json(channels.reads[0])], "spreads": {}, ROLLOUT: rollout}


def refuse_other_rollouts(folder: Path) -> None:
    """Raise UserError for a rollout of a model that takes the state in an argument of its own."""
    if not (folder / workdir.CONFIG_FILE).is_file():
        return
    config = workdir.load_run_config(folder)
    untold = workdir.read_config_file(folder).get("prediction", ...) is None
    if config.data.get("time", "") == "rollout" and untold:
        raise UserError(
            f"{folder} holds a rollout of model type {config.model.type!r}, which takes the state in an argument of "
            "its own; predictions of series work for the other types, such as flare"
        )


@dataclass(frozen=True)
class _Run:
    """What a run on series does: its model of one step, what it reads, how long it goes."""

    predict: Predict
    signature: Signature
    steps: int
    time_step: float
    prescribed: str

    @property
    def moves(self) -> bool:
        return DISPLACEMENT in self.signature.channels.targets

    def times(self, case: Series, count: int) -> list[float]:
        """Return the times of `count` steps of a case, beyond those it has at the training's distance."""
        known = case.times[:count].tolist()
        return known + [float(case.times[0] + number * self.time_step) for number in range(len(known), count)]


def predict_series(
    predict: Predict, prediction: Mapping[str, Any], source: Path, target: Path, pattern: str, figure: Path | None
) -> None:
    """Roll out every series in `source` into folder `target`, with a .pvd each for meshes; write errors and a GIF.

    `predict` is that of the run's surrogate, which gives the change in a step. A series that has one step alone goes on
    for as many as those of the training. Raises UserError where series could not be predicted.
    """
    run = _Run(predict, Signature.from_json(prediction), **prediction[ROLLOUT])
    trained_on = TrainingRange.from_json(prediction["training_range"]) if "training_range" in prediction else None
    if figure is not None and figure.suffix.lower() != ".gif":
        raise UserError(f"--figure={figure} is an animation for a run on series; choose a name that ends in .gif")
    if target.suffix:
        raise UserError(f"--output={target} has to be a folder for a run on series; leave {target.suffix} out")
    series = _series_in(source, pattern)
    if target.resolve() in {steps[0].path.parent.resolve() for steps in series.values()} | {source.resolve()}:
        raise UserError(f"--output={target} is the input itself; choose another name")
    errors, failures, judgements, values, drawn = {}, [], {}, [], False
    for name, steps in series.items():
        try:
            case, truth = _read(steps, run)
            states = _rolled_out(case, truth, run)
            found = _write(target, steps, case, states, truth, run)
            values += _integrals(steps[0], case, states, truth, run, prediction.get("integrals"))
        except (ValueError, OSError, MemoryError) as error:
            if len(series) == 1:
                raise
            failures.append(name)
            print(f"failed: {name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            continue
        if found:
            errors[name] = found
        if trained_on is not None:
            judgements[name] = _judge(case, truth, run, trained_on)
        if figure is not None and not drawn:
            _animate(figure, case, states, truth, run)
            drawn = True
    print(f"{len(series) - len(failures)} series in {target}")
    if errors:
        write_json(target / "errors.json", errors)
        print("\n".join(describe_errors(mean_errors(errors))))
        print(f"errors over all steps of {len(errors)} series in {target / 'errors.json'}")
    report_range(target, judgements)
    report_integrals(target, values)
    if failures:
        raise UserError(f"{len(failures)} of {len(series)} series could not be predicted: {', '.join(failures)}")


def _series_in(source: Path, pattern: str) -> dict[str, list[Reference]]:
    if not source.exists():
        raise UserError(f"--input={source} does not exist; check the path")
    if source.is_file() and not holds_many(source):
        return {source.stem: [Reference(source, case=source.stem, series=source.stem)]}
    if source.is_dir():
        # A folder of steps, or of cases.
        found = find_samples(source, pattern, in_time=True)
    else:
        found = find_samples(source)
    return joined([step for steps in found.values() for step in steps])


def _read(steps: list[Reference], run: _Run) -> tuple[Series, dict[str, np.ndarray]]:
    """Return the case, and the true fields [N, T, C] by name where its steps have them."""
    channels = run.signature.channels
    case = read_series(steps, channels.reads[0], run.prescribed, least=1)
    truth = dict(zip(case.targets, np.split(case.states, np.cumsum(list(case.targets.values()))[:-1], -1), strict=True))
    if run.moves:
        truth[DISPLACEMENT] = case.shifts[..., list(channels.axes)]
    truth = {name: _fitting(values, channels.targets.get(name, 0)) for name, values in truth.items()}
    found = {name: values.shape[-1] for name, values in truth.items()}
    inputs = {**case.inputs, **{_BEFORE.format(name): width for name, width in found.items()}}
    if found != dict(channels.targets) or inputs != dict(channels.inputs):
        raise UserError(
            f"{steps[0]} has the fields {found} and the inputs {case.inputs}, but the model predicts "
            f"{dict(channels.targets)} from these and {dict(channels.inputs)}; match them"
        )
    return case, truth


def _fitting(values: Float[np.ndarray, "N T C"], width: int) -> Float[np.ndarray, "N T _"]:
    """Return states without channels beyond `width` that are zero: mesh files give vectors in the plane three."""
    return fitting(values.reshape(-1, values.shape[-1]), width).reshape(*values.shape[:2], -1)


def _rolled_out(case: Series, truth: Mapping[str, np.ndarray], run: _Run) -> dict[str, Float[np.ndarray, "N T C"]]:
    """Return the predicted states by field, the first of them the given one.

    Prescribed points keep their recorded states, and the last one beyond these.
    """
    points, inputs = case.features[:, : case.space], _inputs(case)
    known = len(case.times)
    count = known if known > 1 else run.steps
    now = {name: values[:, 0] for name, values in truth.items()}
    frames = [now]
    for step in range(1, count):
        increments = run.predict(points, {**inputs, **_before(now)}, name=case.name)
        now = {
            name: np.where(case.free[:, None], values + increments[name], truth[name][:, min(step, known - 1)])
            for name, values in now.items()
        }
        if not all(np.isfinite(values).all() for values in now.values()):
            raise UserError(
                f"the rollout of {case.name} is not finite at step {step}; train longer, or with task.noise"
            )
        frames.append(now)
    return {name: np.stack([frame[name] for frame in frames], axis=1) for name in now}


def _inputs(case: Series) -> dict[str, Float[np.ndarray, "N C"]]:
    """Return what is known beside the coordinates and the state."""
    ends = np.cumsum([case.space, *case.inputs.values()])
    return {
        name: case.features[:, first:last] for name, first, last in zip(case.inputs, ends[:-1], ends[1:], strict=True)
    }


def _before(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {_BEFORE.format(name): values for name, values in state.items()}


def _judge(case: Series, truth: Mapping[str, np.ndarray], run: _Run, trained_on: TrainingRange) -> Judgement:
    """Compare the first step with those of the training."""
    first = {name: values[:, 0] for name, values in truth.items()}
    codec = run.signature.codec
    encoded = codec.encode(case.features[:, : case.space], {**_inputs(case), **_before(first)}, case.name)
    return trained_on.judge(encoded, codec)


def _integrals(
    start: Reference,
    case: Series,
    states: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    run: _Run,
    content: Mapping[str, Any] | None,
) -> list[Value]:
    """Return the integrals that the run reports of every step after the first, none where mesh or marks are missing."""
    if content is None:
        return []
    wanted, channels = parse_integrals(content["wanted"]), run.signature.channels
    try:
        regions = regions_of_start(wanted, start, channels.reads[0])
        weights = regions.weights()
    except DataError as error:
        print(f"no integrals: {error}")
        return []
    times = run.times(case, next(iter(states.values())).shape[1])
    predicted = {name: values[:, 1:] for name, values in states.items()}
    true = {name: values[:, 1:] for name, values in truth.items()} if len(case.times) > 1 else {}
    moving = (regions, channels.axes) if run.moves else None
    given = (case.name, wanted, weights, predicted, true, content["reference"])
    return list(values_of_steps(*given, times[1:], moving))


def _write(
    target: Path,
    steps: list[Reference],
    case: Series,
    states: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    run: _Run,
) -> dict[str, Any]:
    """Write every step with what its input holds, of those beyond it with what the first holds; return the errors."""
    count = next(iter(states.values())).shape[1]
    places = []
    for number in range(count):
        reference = steps[min(number, len(steps) - 1)] if len(steps) > 1 else steps[0]
        contents = read_contents(reference, cell_data=run.signature.channels.reads[0].cell_data)
        fields = {f"{name}_predicted": values[:, number] for name, values in states.items()}
        if len(steps) > 1:
            fields |= {f"{name}_error": states[name][:, number] - truth[name][:, number] for name in states}
        fields = {name: values[:, 0] if values.shape[1] == 1 else values for name, values in fields.items()}
        place = holding_fields(target / case.name / f"{case.name}_{number:04d}{reference.path.suffix}")
        write_contents(place, contents, run.signature.channels.reads[0].points, _cells(contents, run), fields)
        places.append(place)
    if places[0].suffix.lower() in MESH_SUFFIXES:
        write_collection(target / f"{case.name}.pvd", places, run.times(case, count))
    if len(steps) < 2:
        return {}
    flat = {name: values.reshape(-1, values.shape[-1]) for name, values in states.items()}
    return field_errors(flat, {name: values.reshape(-1, values.shape[-1]) for name, values in truth.items()})


def _cells(contents: Contents, run: _Run) -> Cells:
    fields = Fields(run.signature.channels.reads[0].points, (), (), inputs_named=True)
    return make_sample("", contents, fields, "the input", targets_wanted=False).cells


def _animate(
    path: Path, case: Series, states: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], run: _Run
) -> None:
    """Write a GIF of the first field, of a vector its length; without a truth the given state stands for it."""
    name = next(iter(states))
    predicted = np.linalg.norm(states[name], axis=-1) if states[name].shape[-1] > 1 else states[name][..., 0]
    true = np.linalg.norm(truth[name], axis=-1) if truth[name].shape[-1] > 1 else truth[name][..., 0]
    known = true.shape[1] > 1
    places = case.features[:, list(run.signature.channels.axes)]
    times = np.array(run.times(case, predicted.shape[1]))
    title = case.name if known else f"{case.name}, beside its first state"
    save_animation(path, title, places, np.broadcast_to(true, predicted.shape), predicted, times, name)
