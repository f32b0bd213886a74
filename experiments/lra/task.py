"""Classification of token sequences as a task of the training loop; recursive models with deep supervision."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from data_pipeline.sequence.dataset import IGNORE_INDEX, SequenceDataset, TokenSplit
from experiments.training import classification
from experiments.training.packing import Params
from experiments.training.task import Batch, Loss, Losses, Task
from flare_jax import params as model_params
from flare_jax.mixers.performer import redraw_features
from flare_jax.models.sequence.recursion import halting_loss, predict_until_halt
from flare_jax.models.sequence.trm import RecursionState, TinyRecursiveModel

Metric = Callable[[Array, Batch], Array]
# Puzzles are solved or not; of the other tasks with a label per token the share of right ones is reported.
_PUZZLES = ("sudoku", "maze")


def classification_metrics(token_level: bool, num_labels: int) -> tuple[dict[str, Metric], dict[str, str]]:
    """Return the metrics per sample, and which of them weighs which in means over samples.

    `confusion` counts classes (rows) and their predictions (columns), [K, K] per sample.
    """
    functions: dict[str, Callable[[Array, Array], Array]] = {
        "sequence_accuracy": classification.sequence_accuracy,
        "loss": classification.sample_losses,
    }
    weighted_by = {"loss": "valid_labels"}
    if token_level:
        functions["token_accuracy"] = classification.token_accuracy
        weighted_by["token_accuracy"] = "valid_labels"

    def of_batch(function: Callable[[Array, Array], Array]) -> Metric:
        return lambda logits, batch: function(logits, _labels(batch))

    metrics = {name: of_batch(function) for name, function in functions.items()}
    metrics["valid_labels"] = lambda logits, batch: _counts(batch)
    metrics["confusion"] = lambda logits, batch: classification.confusion_counts(logits, _labels(batch), num_labels)
    return metrics, weighted_by


def headline(dataset: SequenceDataset) -> str:
    """Return the metric that ranks checkpoints."""
    return "token_accuracy" if dataset.token_level and dataset.name not in _PUZZLES else "sequence_accuracy"


def classification_task(dataset: SequenceDataset, graphdef: nnx.GraphDef, config: Any) -> Task:
    """Return the task of classifying the sequences, or their tokens, with a model of structure `graphdef`."""
    apply = model_params.apply_fn(graphdef)

    def predict(params: Params, batch: Batch, key: Array | None) -> Array:
        return apply(params, *_inputs(batch, dataset.pad_id), key=key)

    def compare(logits: Array, batch: Batch) -> Array:
        return classification.summed_losses(logits, _labels(batch))

    return _make_task(dataset, graphdef, config, predict, Loss.of_prediction(predict, compare, _counts))


def _make_task(
    dataset: SequenceDataset,
    graphdef: nnx.GraphDef,
    config: Any,
    predict: Callable[..., Array],
    loss: Loss,
) -> Task:
    """Return the task with this prediction of logits; random features of performer blocks are drawn anew."""
    metrics, weighted_by = classification_metrics(dataset.token_level, dataset.num_labels)
    return Task(
        train=_arrays(dataset.train),
        tests={name: _arrays(split) for name, split in dataset.tests.items()},
        predict=predict,
        loss=loss,
        metrics=metrics,
        headline=headline(dataset),
        points_per_sample=dataset.train.input_ids.shape[1],
        points_are="tokens",
        higher_is_better=True,
        selection=dataset.selection,
        weighted_by=weighted_by,
        refresh=partial(redraw_features, graphdef) if config.model.get("redraw_interval", 0) else None,
    )


def recursive_task(dataset: SequenceDataset, graphdef: nnx.GraphDef, config: Any) -> Task:
    """Return the task for a tiny recursive model: every batch is supervised after each of its deep recursions.

    `train.halt_weight` adds the loss of the halting head; with `eval.until_halt` evaluation stops where that head says
    so.
    """
    width, dtype = config.model.channel_dim, jnp.dtype(config.train.dtype)

    def model_of(params: Params) -> TinyRecursiveModel:
        return model_params.merge(graphdef, params)

    def predict(params: Params, batch: Batch, key: Array | None) -> Array:
        ids, mask = _inputs(batch, dataset.pad_id)
        if config.eval.until_halt:
            return predict_until_halt(model_of(params), ids, mask)[0]
        return model_of(params)(ids, mask, key=key)

    def empty(batch: Batch) -> RecursionState:
        zeros = jnp.zeros((*batch["input_ids"].shape, width), dtype)
        return RecursionState(zeros, zeros)

    def loss(params: Params, batch: Batch, key: Array, carry: RecursionState, first: Array) -> Losses:
        model, (ids, mask) = model_of(params), _inputs(batch, dataset.pad_id)
        state = jax.tree.map(lambda start, now: jnp.where(first, start, now), model.initial_state(ids), carry)
        recursion = model.deep_recursion(ids, state, mask, key)
        labels, weight = _labels(batch), config.train.halt_weight
        halting = weight * halting_loss(recursion, labels) if weight else None
        return Losses(classification.summed_losses(recursion.logits, labels), halting, recursion.state)

    return _make_task(dataset, graphdef, config, predict, Loss(loss, _counts, empty, config.model.num_steps))


def majority_accuracy(dataset: SequenceDataset, split: TokenSplit, metric: str) -> float:
    """Return the accuracy of always predicting the commonest class of the training set: what any model must beat."""
    counted = dataset.train.labels[dataset.train.labels != IGNORE_INDEX]
    right = split.labels == np.bincount(counted.astype(np.int64).reshape(-1)).argmax()
    valid = split.labels != IGNORE_INDEX
    if split.labels.ndim == 1 or metric == "token_accuracy":
        return float(right[valid].mean())
    return float((right | ~valid).all(1).mean())


def _arrays(split: TokenSplit) -> Mapping[str, np.ndarray]:
    return {"input_ids": split.input_ids, "labels": split.labels}


def _labels(batch: Batch) -> Array:
    return batch["labels"].astype(jnp.int32)


def _counts(batch: Batch) -> Array:
    return classification.valid_counts(_labels(batch))


def _inputs(batch: Batch, pad_id: int | None) -> tuple[Array, Array | None]:
    """Return token ids [B, N] and, for a task with padding, the mask of real tokens."""
    ids = batch["input_ids"].astype(jnp.int32)
    return ids, None if pad_id is None else ids != pad_id
