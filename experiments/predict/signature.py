"""What a trained model takes and gives, in the units of a user's files; kept in config.json of a run."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data_pipeline.custom.sample import Field, Fields, parse_fields
from data_pipeline.dataset import Channels, PDEDataset
from data_pipeline.normalizer import Normalizer
from flare_jax.field_codec import FieldCodec


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
    def codec(self) -> FieldCodec:
        """How the model's inputs are encoded and its outputs decoded."""
        channels = self.channels
        scales = np.asarray(channels.scales, np.float64)
        pairs = (self.x.mean, self.x.std, self.y.mean, self.y.std)
        return FieldCodec(tuple(channels.axes), dict(channels.inputs), dict(channels.targets), *pairs, scales)

    def to_json(self) -> dict[str, Any]:
        """Return the content for config.json."""
        reads = [fields_to_json(fields) for fields in self.channels.reads]
        return {**self.codec.to_json(), "reads": reads, "spreads": dict(self.spreads)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Signature":
        """Undo `to_json`."""
        codec = FieldCodec.from_json(content)
        if "reads" in content:
            reads = tuple(map(_fields_from_json, content["reads"]))
        else:  # runs of before fields could have any name
            reads = (parse_fields(*content["sources"]),)
        channels = Channels(codec.axes, codec.inputs, codec.targets, codec.scales, reads)
        pairs = (Normalizer(codec.x_mean, codec.x_std), Normalizer(codec.y_mean, codec.y_std))
        return cls(channels, *pairs, content.get("spreads", {}))

    def fields(self, present: Collection[str]) -> Fields:
        """Return which of the arrays `present` in a file are read: exactly the model's inputs, all of which are needed.

        Of several layouts it is the one of which most is there.
        """
        named = max(self.channels.reads, key=lambda one: len(one.names() & set(present)))
        inputs = tuple(one for one in named.inputs if one.label in self.channels.inputs)
        return replace(named, inputs=inputs, inputs_named=True)


def fields_to_json(fields: Fields) -> dict[str, Any]:
    """Return fields as JSON can hold them."""
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
