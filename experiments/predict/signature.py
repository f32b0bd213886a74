"""What a trained model takes and gives, in the units of a user's files; kept in config.json of a run."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline.custom.readers import Reference
from data_pipeline.custom.sample import Field, Fields, Sample, parse_fields
from data_pipeline.custom.scaling import varying_axes
from data_pipeline.dataset import Channels, PDEDataset
from data_pipeline.normalizer import Normalizer
from data_pipeline.streaming.moments import Moments
from experiments.errors import UserError


@dataclass(frozen=True)
class Signature:
    """The fields of `channels`, of which the inputs are encoded by `x` and the outputs decoded by `y`.

    `spreads` are the standard deviations of fields over the training points, where training measured errors by them.
    """

    channels: Channels
    x: Normalizer
    y: Normalizer
    spreads: Mapping[str, float] = field(default_factory=dict)

    @property
    def c_in(self) -> int:
        return len(self.channels.axes) + sum(self.channels.inputs.values())

    @property
    def c_out(self) -> int:
        return sum(self.channels.targets.values())

    def to_json(self) -> dict[str, Any]:
        """Return the content for config.json."""
        numbers = {f"{name}_{part}": getattr(getattr(self, name), part) for name in "xy" for part in ("mean", "std")}
        arrays = {name: np.asarray(value, np.float64).tolist() for name, value in numbers.items()}
        channels = self.channels
        fields = {"inputs": dict(channels.inputs), "targets": dict(channels.targets)}
        return {
            "axes": list(channels.axes),
            **fields,
            "reads": [_fields_to_json(fields) for fields in channels.reads],
            **arrays,
            "scales": np.asarray(channels.scales, np.float64).tolist(),
            "spreads": dict(self.spreads),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Signature":
        """Undo `to_json`."""
        pairs = [Normalizer(*(np.float64(content[f"{name}_{part}"]) for part in ("mean", "std"))) for name in "xy"]
        if "reads" in content:
            reads = tuple(map(_fields_from_json, content["reads"]))
        else:  # runs of before fields could have any name
            reads = (parse_fields(*content["sources"]),)
        scales = np.float64(content["scales"])
        channels = Channels(tuple(content["axes"]), content["inputs"], content["targets"], scales, reads)
        return cls(channels, *pairs, content.get("spreads", {}))

    def fields(self, present: Collection[str]) -> Fields:
        """Return which of the arrays `present` in a file are read: exactly the model's inputs, all of which are needed.

        Of several layouts it is the one of which most is there.
        """
        named = max(self.channels.reads, key=lambda one: len(one.names() & set(present)))
        inputs = tuple(one for one in named.inputs if one.label in self.channels.inputs)
        return replace(named, inputs=inputs, inputs_named=True)

    def features(self, sample: Sample, reference: Reference) -> Float[np.ndarray, "N C"]:
        """Return the encoded inputs of the model; raises UserError if the file has other ones."""
        self._check_points(sample.points, reference)
        inputs = {name: fitting(sample.inputs[name], width) for name, width in self.channels.inputs.items()}
        widths = {name: array.shape[1] for name, array in inputs.items()}
        if widths != dict(self.channels.inputs):
            raise UserError(
                f"{reference} has the inputs {widths}, but the model takes {dict(self.channels.inputs)}; match them"
            )
        channels = [sample.points[:, self.channels.axes], *inputs.values()]
        return self.x.encode(np.concatenate(channels, axis=-1))

    def split(self, outputs: Float[np.ndarray, "N C"]) -> dict[str, Float[np.ndarray, "N C"]]:
        """Return the model's outputs in the units of the files, by field."""
        return self.channels.split(self.y.decode(outputs))

    def _check_points(self, points: np.ndarray, reference: Reference) -> None:
        dimensions = points.shape[1]
        if max(self.channels.axes) >= dimensions:
            raise UserError(
                f"the points of {reference} have {dimensions} coordinates, but the model takes number "
                f"{max(self.channels.axes)}, counted from 0; store the points like those of the training"
            )
        varies = varying_axes(Moments.of(points), dimensions)
        for axis in set(range(dimensions)) - set(self.channels.axes):
            if varies[axis]:
                raise UserError(
                    f"coordinate {axis} of the points of {reference} varies, but the model takes only the coordinates "
                    f"{self.channels.axes}, which alone varied in training; predict on points of one plane or line"
                )


def fitting(field: Float[np.ndarray, "N C"], width: int) -> Float[np.ndarray, "N C"]:
    """Return a field without channels beyond `width` that are zero: mesh files give vectors in the plane three."""
    return field[:, :width] if field.shape[1] > width and not field[:, width:].any() else field


def _fields_to_json(fields: Fields) -> dict[str, Any]:
    return {
        **vars(fields),
        "inputs": [list(one) for one in fields.inputs],
        "targets": [list(one) for one in fields.targets],
    }


def _fields_from_json(content: Mapping[str, Any]) -> Fields:
    return Fields(
        **{**content, **{part: tuple(Field(*one) for one in content[part]) for part in ("inputs", "targets")}}
    )


def signature_of(dataset: PDEDataset) -> Signature | None:
    """Return the signature of models trained on a data set, None where these need more than points and inputs."""
    if dataset.kind != "steady" or dataset.fun_dim or dataset.has_time:
        return None
    firsts = np.cumsum([0, *dataset.spread_fields.values()])
    spreads = {
        name: float(dataset.channels.scales[at]) for name, at in zip(dataset.spread_fields, firsts, strict=False)
    }
    return Signature(dataset.channels or _unnamed(dataset), dataset.x_normalizer, dataset.y_decoder, spreads)


def _unnamed(dataset: PDEDataset) -> Channels:
    """Return the channels of a data set whose files hold many samples: names for files of one sample."""
    target = re.sub(r"\W+", "_", dataset.target_name).strip("_")
    beside = dataset.c_in - dataset.space_dim
    return Channels(
        tuple(range(dataset.space_dim)),
        {Field("inputs").label: beside} if beside else {},
        {target: dataset.c_out},
        np.ones(dataset.c_out, np.float32),
        (Fields("points", Fields().inputs if beside else (), (Field(target),), True),),
    )
