"""Language modelling as a task of the training package: the next token, or the answers of associative recall."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from data_pipeline.language.tokenizer import SEPARATOR
from experiments.lm.data import LanguageData
from experiments.training.packing import Params
from experiments.training.task import Batch, Loss, Task
from flare_jax import params as model_params
from flare_jax.models.language import DecoderState

# Loss and whether the label is the likeliest token, of every token.
Scores = tuple[Array, Array]


def language_task(data: LanguageData, graphdef: nnx.GraphDef, config: Any) -> Task:
    """Return the task of a run with a model of structure `graphdef`."""
    resets = bool(config.data.get("reset_documents"))
    # Of associative recall a row has few labels.
    most = config.data.pairs if data.recall else None

    def predict(params: Params, batch: Batch, key: Array | None) -> Scores:
        ids, labels = _inputs(batch)
        documents = _documents(ids) if resets else None
        return model_params.merge(graphdef, params).scores(ids, labels, documents, key, most=most)

    def summed(scores: Scores, batch: Batch) -> Array:
        return jnp.sum(scores[0], axis=1)

    def mean_loss(scores: Scores, batch: Batch) -> Array:
        return summed(scores, batch) / jnp.maximum(_counts(batch), 1)

    def accuracy(scores: Scores, batch: Batch) -> Array:
        return jnp.sum(scores[1], axis=1) / jnp.maximum(_counts(batch), 1)

    metrics = {"loss": mean_loss, "accuracy": accuracy, "labels": lambda scores, batch: _counts(batch)}
    weighted_by = {"loss": "labels", "accuracy": "labels"}
    if not data.recall:
        metrics["bits_per_byte"] = lambda scores, batch: summed(scores, batch) / (math.log(2) * _bytes(batch))
        metrics["bytes"] = lambda scores, batch: _bytes(batch)
        weighted_by["bits_per_byte"] = "bytes"
    return Task(
        train=data.train,
        tests=data.tests,
        predict=predict,
        loss=Loss.of_prediction(predict, summed, _counts),
        metrics=metrics,
        headline="accuracy" if data.recall else "bits_per_byte",
        points_per_sample=config.data.length,
        points_are="tokens",
        higher_is_better=data.recall,
        selection=data.selection,
        weighted_by=weighted_by,
    )


def averaged_scores(scores: Scores) -> Scores:
    """Return the losses of the mean of the probabilities that several models [S, B, N] give to the labels.

    Beside them is the share of the models whose likeliest token is the label.
    """
    losses, hits = scores
    return jnp.log(len(losses)) - jax.nn.logsumexp(-losses, axis=0), jnp.mean(hits.astype(jnp.float32), axis=0)


def loss_by_position(scores: Scores, batch: Batch) -> Array:
    """Return the losses of a row in nats, summed over the positions from 0 to 1, 1 to 2, 2 to 4, 4 to 8 and so on."""
    return jax.vmap(lambda row: jax.ops.segment_sum(row, *_ranges(row.shape[0])))(scores[0])


def labels_by_position(scores: Scores, batch: Batch) -> Array:
    """Return how many labels the sums of `loss_by_position` are of."""
    labels = _inputs(batch)[1] >= 0
    return jax.vmap(lambda row: jax.ops.segment_sum(row.astype(jnp.float32), *_ranges(row.shape[0])))(labels)


def streaming_losses(graphdef: nnx.GraphDef, params: Params, arrays: Mapping[str, Any]) -> Array:
    """Return the sum of the losses of each row of a text, read with one state from its beginning on, in nats."""

    @jax.jit
    def run(params: Params, arrays: Mapping[str, Array]) -> Array:
        model = model_params.merge(graphdef, params)

        def row(state: DecoderState, row: Mapping[str, Array]) -> tuple[DecoderState, Array]:
            ids, labels = _inputs({name: value[None] for name, value in row.items()})
            (losses, _), state = model.scores_after(ids, labels, state)
            return state, jnp.sum(losses)

        return jax.lax.scan(row, model.init_state(1, 1), dict(arrays))[1]

    return run(params, arrays)


def _ranges(length: int) -> tuple[Array, int]:
    numbers = jnp.asarray([position.bit_length() for position in range(length)])
    return numbers, (length - 1).bit_length() + 1


def _inputs(batch: Batch) -> tuple[Array, Array]:
    """Return token numbers and the labels of each, negative ones where there is none."""
    if "input_ids" in batch:
        return batch["input_ids"].astype(jnp.int32), batch["labels"].astype(jnp.int32)
    ids = batch["tokens"].astype(jnp.int32)
    following = jnp.concatenate([ids[:, 1:], batch["next"].astype(jnp.int32)[:, None]], axis=1)
    real = jnp.arange(ids.shape[1]) < batch["labels"][:, None]
    return ids, jnp.where(real, following, -1)


def _documents(ids: Array) -> Array:
    """Return how many documents have ended before each token."""
    ended = (ids == SEPARATOR).astype(jnp.int32)
    return jnp.cumsum(ended, axis=1) - ended


def _counts(batch: Batch) -> Array:
    return jnp.sum(_inputs(batch)[1] >= 0, axis=1).astype(jnp.float32)


def _bytes(batch: Batch) -> Array:
    return jnp.maximum(batch["bytes"], 1.0)
