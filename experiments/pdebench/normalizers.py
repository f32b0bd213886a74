"""Data in the normalisation of another training, so that its weights see and give what they did there."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset import PDEDataset
from data_pipeline.normalizer import Normalizer
from data_pipeline.split import Split
from data_pipeline.streaming.rows import StoredRows
from experiments import workdir
from experiments.errors import UserError
from experiments.predict.rollout import rollout_prediction
from experiments.predict.signature import signature_of
from flare_jax.field_codec import FieldCodec


def with_normalizers(dataset: PDEDataset, prediction: Mapping[str, Any], where: str) -> PDEDataset:
    """Return the data set with inputs encoded, and predictions decoded, as `prediction` says, that of the run `where`.

    `where` stands for the run in the UserError that is raised where its fields are not those of the data set, in names,
    order and numbers of channels.
    """
    kept, own = FieldCodec.from_json(prediction), _codec_of(dataset)
    fields = None if own is None else (own.axes, list(own.inputs.items()), list(own.targets.items()))
    if fields != (kept.axes, list(kept.inputs.items()), list(kept.targets.items())):
        raise UserError(
            f"the normalisation of {where} is for its coordinates, inputs and targets ({kept.axes}, "
            f"{dict(kept.inputs)}, {dict(kept.targets)}), but data set {dataset.name} has {fields or 'none of its own'}"
            "; take data with these fields, in training also with train.init_normalizers=refit"
        )
    encoder = Normalizer(kept.x_mean[: dataset.c_in], kept.x_std[: dataset.c_in])
    # Targets are stored divided by the scales of their own data set, and without its offset.
    ratio = kept.scales / own.scales
    if dataset.kind == "mesh_series":  # the state is encoded behind the other inputs, and increments have no offset
        mean, std = (values[dataset.c_in :] / own.scales for values in (kept.x_mean, kept.x_std))
        changed = {
            "y_normalizer": Normalizer(mean - dataset.offset, std),
            "increment_normalizer": Normalizer(kept.y_mean * ratio, kept.y_std * ratio),
        }
    else:
        changed = {"y_normalizer": Normalizer(kept.y_mean * ratio - dataset.offset, kept.y_std * ratio)}
    tests = {name: _encoded(split, dataset.x_normalizer, encoder) for name, split in dataset.tests.items()}
    train = _encoded(dataset.train, dataset.x_normalizer, encoder)
    return replace(dataset, train=train, tests=tests, x_normalizer=encoder, **changed)


def as_trained(dataset: PDEDataset, folder: Path) -> PDEDataset:
    """Return the data set in the normalisation of the run in `folder`, which other data would have given other values.

    Data that give the same are returned as they are.
    """
    recorded, own = workdir.read_config_file(folder).get("prediction"), _codec_of(dataset)
    if not recorded or own is None or FieldCodec.from_json(recorded).to_json() == own.to_json():
        return dataset
    return with_normalizers(dataset, recorded, str(folder))


def _codec_of(dataset: PDEDataset) -> FieldCodec | None:
    """Return how fields of the data set are encoded in its own normalisation, None for data without such fields."""
    signature, rollout = signature_of(dataset), rollout_prediction(dataset)
    if signature is not None:
        return signature.codec
    return None if rollout is None else FieldCodec.from_json(rollout)


def _encoded(split: Split, old: Normalizer, new: Normalizer) -> Split:
    if isinstance(split.x, StoredRows):
        return replace(split, x=replace(split.x, normalizer=new))
    # In one step, so that coordinates far from their origin keep their digits.
    between = Normalizer((new.mean - old.mean) / old.std, new.std / old.std)
    x = between.encode(split.x)
    return replace(split, x=x if split.mask is None else np.where(split.mask[..., None], x, np.float32(0)))
