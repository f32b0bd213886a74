"""Series of a user's meshes as rollouts: the state of the next step from that of the last one.

The state are the targets, and where points move their displacement from the first step. Points are those of the first
step; inputs, and the mark of points whose state is prescribed, are known from there too. Every field is divided by its
spread, so that errors weigh several fields alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from data_pipeline.clouds import choose_buckets, pad_clouds
from data_pipeline.custom.in_memory import SamplesInMemory
from data_pipeline.custom.integrals import Integral, check_channels
from data_pipeline.custom.readers import TIME, Reference, read_contents, read_sample
from data_pipeline.custom.regions import Regions, regions_of
from data_pipeline.custom.sample import Field, Fields, make_sample
from data_pipeline.custom.sanity import duplicate_notes, extent_notes
from data_pipeline.custom.scaling import FLAT, input_normalizer, target_scales, varying
from data_pipeline.dataset import Channels, Integrals, PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.normalizer import Normalizer
from data_pipeline.streaming.moments import Moments

DISPLACEMENT = "displacement"
# Steps are as long as each other up to this share of their length.
_SAME_STEP = 1e-3


@dataclass(frozen=True)
class Series:
    """One case: points [N, D] and features [N, C_in] of its first step, states [N, T, C] and `times` [T].

    `free` [N] are the points whose state is not prescribed. `widths` are the channels of the fields of the state.
    """

    name: str
    features: Float[np.ndarray, "N C_in"]
    states: Float[np.ndarray, "N T C"]
    shifts: Float[np.ndarray, "N T D"]
    times: Float[np.ndarray, " T"]
    free: Bool[np.ndarray, " N"]
    inputs: Mapping[str, int]
    targets: Mapping[str, int]

    @property
    def space(self) -> int:
        """The number of coordinates."""
        return self.shifts.shape[-1]

    @property
    def moves(self) -> bool:
        """Whether points move by more than round-off."""
        extent = np.ptp(self.features[:, : self.space], axis=0).max()
        return bool(np.abs(self.shifts).max(initial=0.0) > FLAT * extent)


def rollout_fields(fields: Fields, prescribed: str) -> Fields:
    """Return what is read of every step: the fields, the time, and the mark of prescribed points as an input."""
    named = [one for one in fields.inputs if one.label not in (TIME, prescribed)] if fields.inputs_named else []
    marks = [Field(prescribed)] if prescribed else []
    return replace(fields, inputs=(*named, *marks, Field(TIME)), inputs_named=True)


def read_series(steps: Sequence[Reference], fields: Fields, prescribed: str, least: int = 2) -> Series:
    """Read the steps of a case, `fields` being those of `rollout_fields`.

    Raises DataError for fewer than `least` steps, for steps of different points or fields, and for a mark that is no
    single channel.
    """
    if len(steps) < least:
        raise DataError(
            f"{steps[0]} is the only step of {steps[0].series}, and a rollout needs at least {least}; add more"
        )
    samples = [read_sample(step, fields) for step in steps]
    first, times = samples[0], np.array([float(sample.inputs[TIME][0, 0]) for sample in samples])
    for step, sample in zip(steps, samples, strict=True):
        if len(sample) != len(first) or sample.layout() != first.layout():
            raise DataError(
                f"{step} has {len(sample)} points and other fields than {steps[0]} or another number of points, "
                f"{len(first)}; a rollout needs the same at all steps: data.time=input takes steps of any mesh"
            )
    if (np.diff(times) <= 0).any():
        raise DataError(f"the times of {steps[0].series} do not grow, {_some(times)}; order its steps by time")
    inputs = {name: values for name, values in first.inputs.items() if name != TIME}
    free = np.ones(len(first), bool)
    if prescribed:
        if inputs[prescribed].shape[1] != 1:
            raise DataError(f"data.prescribed={prescribed!r} has {inputs[prescribed].shape[1]} channels; name one of 1")
        free = inputs[prescribed][:, 0] == 0
    return Series(
        steps[0].series,
        np.concatenate([first.points, *inputs.values()], axis=-1),
        np.stack([sample.fields() for sample in samples], axis=1).astype(np.float64),
        np.stack([sample.points.astype(np.float64) - first.points for sample in samples], axis=1),
        times,
        free,
        {name: values.shape[1] for name, values in inputs.items()},
        first.layout()["targets"],
    )


def regions_of_start(wanted: Sequence[Integral], start: Reference, fields: Fields) -> Regions:
    """Return the regions of the first step of a series, whose `fields` are those of `rollout_fields`."""
    contents = read_contents(start, cell_data=fields.cell_data)
    return regions_of(wanted, make_sample(start.name, contents, fields, str(start), False), contents, str(start))


def load_rollout(
    splits: Mapping[str, Sequence[Sequence[Reference]]],
    fields: Fields,
    prescribed: str,
    wanted: tuple[Integral, ...],
    reference: float,
    buckets: int,
    path: Path,
) -> PDEDataset:
    """Return the series of every split as a data set of kind `mesh_series`; raises DataError."""
    fields = rollout_fields(fields, prescribed)
    cases = {name: [read_series(steps, fields, prescribed) for steps in series] for name, series in splits.items()}
    every = [case for found in cases.values() for case in found]
    first = every[0]
    for case in every:
        if (case.space, case.inputs, case.targets) != (first.space, first.inputs, first.targets):
            raise DataError(f"{case.name} has other fields than {first.name}; all series need the same")
    steps, notes = min(len(case.times) for case in every), []
    if any(len(case.times) > steps for case in every):
        notes.append(f"series of different lengths are used up to step {steps}, the last of the shortest")
    _check_times(every, steps)
    notes += _strange(cases, splits, first.space)
    features = Moments.merge(Moments.of(case.features) for case in cases["train"])
    columns = varying(features, first.space)
    axes = [column for column in columns if column < first.space]
    if not axes:
        raise DataError(f"all points of the training samples in {path} coincide; check data.points")
    moving = any(case.moves for case in cases["train"])
    targets = {**first.targets, **({DISPLACEMENT: len(axes)} if moving else {})}
    states = {name: [_state(case, axes, moving, steps) for case in found] for name, found in cases.items()}
    moments = Moments.merge(Moments.of(state.reshape(-1, state.shape[-1])) for state in states["train"])
    scales = target_scales(moments, targets)
    scaled = {name: [state / scales for state in found] for name, found in states.items()}
    x_normalizer = input_normalizer(features, columns)
    sizes = choose_buckets(np.array([len(case.free) for case in cases["train"]]), buckets)
    made = {
        name: _split(cases[name], scaled[name], columns, x_normalizer, sizes[-1] if name == "train" else 0)
        for name in cases
    }
    increments = [np.diff(y[case.free], axis=1) for case, y in zip(cases["train"], scaled["train"], strict=True)]
    if not any(part.size for part in increments):
        raise DataError(f"data.prescribed={prescribed!r} marks all points, so that nothing is left to predict")
    if not any(part.any() for part in increments):
        raise DataError(
            f"the fields {', '.join(targets)} of all training series stay what they are at the first step, so that "
            "there is nothing to learn; check data.targets"
        )
    integrals = None
    if wanted:
        check_channels(wanted, targets, len(axes))
        starts = {name: [series[0] for series in found] for name, found in splits.items() if name != "train"}
        integrals = _integrals(wanted, reference, starts, fields, moving)
    names = {name: [case.name for case in found] for name, found in cases.items()}
    detail = {"samples": names, "axes": axes, "targets": targets, "target_scales": scales.tolist(), "notes": notes}
    detail["prescribed"] = prescribed
    return PDEDataset(
        name="custom",
        train=made.pop("train"),
        tests=made,
        x_normalizer=x_normalizer,
        y_normalizer=_fitted(scaled["train"]),
        source=Source("own files", str(path), detail),
        target_name=next(iter(targets)),
        kind="mesh_series",
        space_dim=len(axes),
        times=first.times[:steps],
        increment_normalizer=_fitted(increments),
        bucket_sizes=sizes,
        channels=Channels(tuple(axes), first.inputs, targets, scales, (fields,)),
        sample_names=names,
        integrals=integrals,
    )


def _strange(
    cases: Mapping[str, Sequence[Series]], splits: Mapping[str, Sequence[Sequence[Reference]]], space: int
) -> list[str]:
    """Return notes on series that are in two splits at once, and on extents far from the usual one."""
    found = {name: list(zip(cases[name], splits[name], strict=True)) for name in sorted(cases)}
    every = [pair for pairs in found.values() for pair in pairs]
    arrays = SamplesInMemory(
        [{"x": case.features, "y": case.states.reshape(len(case.features), -1)} for case, _ in every]
    )
    starts = np.cumsum([0, *map(len, found.values())])
    rows = {name: np.arange(starts[i], starts[i + 1]) for i, name in enumerate(found)}
    references = [steps[0] for _, steps in every]
    return duplicate_notes(arrays, rows, references) + extent_notes(arrays, rows, references, space)


def _integrals(
    wanted: tuple[Integral, ...],
    reference: float,
    starts: Mapping[str, Sequence[Reference]],
    fields: Fields,
    moving: bool,
) -> Integrals:
    regions = {name: [regions_of_start(wanted, start, fields) for start in found] for name, found in starts.items()}
    if moving and fields.cell_data == "centres":
        raise DataError(
            "the points of these series move, and integrals at the centres of cells need meshes that stay; set "
            "data.cell_data=nodes, or leave data.integrals out"
        )
    weights = {name: [one.weights() for one in found] for name, found in regions.items()}
    return Integrals(wanted, reference, weights, regions if moving else {})


def _check_times(cases: Sequence[Series], steps: int) -> None:
    lengths = [np.diff(case.times[:steps]) for case in cases]
    usual = lengths[0][0]
    for case, found in zip(cases, lengths, strict=True):
        if np.abs(found - usual).max() > _SAME_STEP * usual:
            raise DataError(
                f"{case.name} has the times {_some(case.times)}, and a rollout needs steps of one length, "
                f"{usual:.6g} as at the start of {cases[0].name}; resample, or train from the time by data.time=input"
            )


def _some(times: np.ndarray) -> str:
    return ", ".join(f"{time:.6g}" for time in times[:4]) + (", ..." if len(times) > 4 else "")


def _state(case: Series, axes: Sequence[int], moving: bool, steps: int) -> Float[np.ndarray, "N T C"]:
    parts = [case.states, case.shifts[..., axes]] if moving else [case.states]
    return np.concatenate(parts, axis=-1)[:, :steps]


def _fitted(parts: Sequence[Float[np.ndarray, "N T C"]]) -> Normalizer:
    """Return the normalizer of states or increments; what never varies keeps its unit."""
    moments = Moments.merge(Moments.of(part.reshape(-1, part.shape[-1])) for part in parts if part.size)
    return Normalizer(moments.mean, np.where(moments.std > moments.round_off, moments.std, 1.0))


def _split(
    cases: Sequence[Series],
    states: Sequence[np.ndarray],
    columns: tuple[int, ...],
    x_normalizer: Normalizer,
    length: int,
) -> Split:
    x, mask = pad_clouds([x_normalizer.encode(case.features[:, columns]) for case in cases], length)
    y, _ = pad_clouds(states, x.shape[1])
    free, _ = pad_clouds([case.free[:, None] for case in cases], x.shape[1])
    return Split(x, y, mask, free=free[..., 0] > 0)
