"""What a trained model takes and gives, in the units of a user's files; kept in config.json of a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline.custom.readers import Reference
from data_pipeline.custom.sample import Field, Fields, Sample, parse_fields
from data_pipeline.dataset import PDEDataset
from data_pipeline.normalizer import Normalizer
from experiments.errors import UserError


@dataclass(frozen=True)
class Signature:
    """The coordinates `axes` of the points, then the channels of `inputs`, are encoded by `x`, outputs decoded by `y`.

    `inputs` and `targets` map names of fields to their numbers of channels; `scales` [C] are what targets were divided
    by in training. `sources` are the options that name the arrays of files: points, inputs and targets.
    """

    axes: tuple[int, ...]
    inputs: Mapping[str, int]
    targets: Mapping[str, int]
    x: Normalizer
    y: Normalizer
    scales: Float[np.ndarray, " C"]
    sources: tuple[str, str, str]

    @property
    def c_in(self) -> int:
        return len(self.axes) + sum(self.inputs.values())

    @property
    def c_out(self) -> int:
        return sum(self.targets.values())

    def to_json(self) -> dict[str, Any]:
        """Return the content for config.json."""
        numbers = {f"{name}_{part}": getattr(getattr(self, name), part) for name in "xy" for part in ("mean", "std")}
        arrays = {name: np.asarray(value, np.float64).tolist() for name, value in numbers.items()}
        fields = {"inputs": dict(self.inputs), "targets": dict(self.targets), "sources": list(self.sources)}
        return {"axes": list(self.axes), **fields, **arrays, "scales": np.asarray(self.scales, np.float64).tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Signature":
        """Undo `to_json`."""
        pairs = [Normalizer(*(np.float32(content[f"{name}_{part}"]) for part in ("mean", "std"))) for name in "xy"]
        return cls(
            tuple(content["axes"]),
            content["inputs"],
            content["targets"],
            *pairs,
            np.float32(content["scales"]),
            tuple(content["sources"]),
        )

    def fields(self) -> Fields:
        """Return which arrays of a file are read: exactly the inputs of the model, all of which are needed."""
        named = parse_fields(*self.sources)
        return Fields(named.points, tuple(one for one in named.inputs if one.label in self.inputs), named.targets, True)

    def features(self, sample: Sample, reference: Reference) -> Float[np.ndarray, "N C"]:
        """Return the encoded inputs of the model; raises UserError if the file has other ones."""
        self._check_points(sample.points, reference)
        inputs = {name: fitting(sample.inputs[name], width) for name, width in self.inputs.items()}
        widths = {name: array.shape[1] for name, array in inputs.items()}
        if widths != dict(self.inputs):
            raise UserError(f"{reference} has the inputs {widths}, but the model takes {dict(self.inputs)}; match them")
        channels = [sample.points[:, self.axes], *inputs.values()]
        return self.x.encode(np.concatenate(channels, axis=-1))

    def split(self, outputs: Float[np.ndarray, "N C"]) -> dict[str, Float[np.ndarray, "N C"]]:
        """Return the model's outputs in the units of the files, by field."""
        decoded = self.y.decode(outputs) * self.scales
        parts = np.split(decoded, np.cumsum(list(self.targets.values()))[:-1], axis=-1)
        return dict(zip(self.targets, parts, strict=True))

    def _check_points(self, points: np.ndarray, reference: Reference) -> None:
        dimensions = points.shape[1]
        if max(self.axes) >= dimensions:
            raise UserError(
                f"the points of {reference} have {dimensions} coordinates, but the model takes number "
                f"{max(self.axes)}, counted from 0; store the points like those of the training"
            )
        for axis in set(range(dimensions)) - set(self.axes):
            if np.ptp(points[:, axis]) > 1e-6 * np.ptp(points, axis=0).max():
                raise UserError(
                    f"coordinate {axis} of the points of {reference} varies, but the model takes only the coordinates "
                    f"{self.axes}, which alone varied in training; predict on points of one plane or line"
                )


def fitting(field: Float[np.ndarray, "N C"], width: int) -> Float[np.ndarray, "N C"]:
    """Return a field without channels beyond `width` that are zero: mesh files give vectors in the plane three."""
    return field[:, :width] if field.shape[1] > width and not field[:, width:].any() else field


def signature_of(dataset: PDEDataset, options: Mapping[str, Any]) -> Signature | None:
    """Return the signature of models trained on a data set, None where these need more than points and inputs.

    `options` are those of config section `data`.
    """
    if dataset.kind != "steady" or dataset.fun_dim or dataset.has_time:
        return None
    detail = dataset.source.detail
    if dataset.name == "custom":
        sources = tuple(options[name] for name in ("points", "inputs", "targets"))
        facts = (tuple(detail["axes"]), detail["inputs"], detail["targets"])
        return Signature(*facts, dataset.x_normalizer, dataset.y_normalizer, detail["target_scales"], sources)
    target = re.sub(r"\W+", "_", dataset.target_name).strip("_")
    beside = dataset.c_in - dataset.space_dim
    return Signature(
        tuple(range(dataset.space_dim)),
        {Field("inputs").label: beside} if beside else {},
        {target: dataset.c_out},
        dataset.x_normalizer,
        dataset.y_normalizer,
        np.ones(dataset.c_out, np.float32),
        ("points", "", target),
    )
