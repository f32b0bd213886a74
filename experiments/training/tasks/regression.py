"""Steady regression: one field per sample, compared in data units."""

from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Int

from data_pipeline.dataset import PDEDataset
from experiments.errors import UserError
from experiments.training import losses
from experiments.training.packing import Params
from experiments.training.task import Batch, Loss, Task
from experiments.training.tasks.errors import field_errors, headline_of, relative_counts
from experiments.training.tasks.inputs import ModelCall, task_arrays
from experiments.training.tasks.part_metrics import part_metrics
from experiments.training.tasks.surface_errors import surface_errors
from experiments.training.tasks.symmetries import random_symmetries, turned

# Statistics of the original's three random numbers with seed 0, by which it decodes LPBF's fields.
ORIGINAL_LPBF_MEAN, ORIGINAL_LPBF_STD = 0.4510, 0.3421


def regression_task(
    dataset: PDEDataset,
    apply: Callable[..., Array],
    points_multiple: int = 1,
    call_inputs: Collection[str] = (),
    *,
    gradient_weight: float = 0.0,
    points_per_step: int = 0,
    points_per_piece: int = 0,
    original_metric: bool = False,
    symmetries: bool = False,
    diagnostics: int = 0,
) -> Task:
    """Return the task of predicting `dataset`'s fields with `apply(params, x, mask)`.

    The loss is the relative L2 error, or the error in units of the spread where the targets are in these.
    `call_inputs` names the further arguments that `apply` takes: of these, `key` is the key of a training step (None in
    evaluation), and `fx` and `time` come from the data. `gradient_weight` adds so much of the error of the field's
    gradient on the data's grid (Darcy: 0.1); `points_per_step` trains on so many random points of each sample;
    `points_per_piece` lets models that can do so predict outside of training in pieces of so many points, which bounds
    the memory and not the cloud: the result is that of all points. `symmetries` turns and mirrors printed parts at
    random in every step; every `diagnostics` steps (0: never) the mixers of the model say how they are;
    `original_metric` adds the original's expression on LPBF to the metrics. Raises UserError if the data have an input
    that is not taken, no grid for the gradient, or too few points, and if the model has no pieces or nothing to say. Of
    several fields each has errors among the metrics; surfaces and printed parts have further ones.
    """
    _check_inputs(dataset, call_inputs)
    _check_options(dataset, gradient_weight, points_per_step)
    check_model_takes(points_per_piece, diagnostics, call_inputs)
    mask = dataset.train.mask
    # Samples of at least so many points give parts without padding.
    all_real = mask is None or int(np.min(mask.sum(axis=1))) >= points_per_step
    normalizer, call = dataset.y_normalizer, ModelCall(apply, call_inputs, dataset.space_dim)

    def predict(params: Params, batch: Batch, key: Array | None) -> Array:
        given = {"features": batch.get("fx"), "time": batch.get("time"), "edges": batch.get("edges"), "key": key}
        given |= {"points_per_piece": points_per_piece} if points_per_piece and key is None else {}
        return normalizer.decode(call(params, batch["x"], batch.get("mask"), **given))

    def metric(function: Callable[..., Array]) -> Callable[[Array, Batch], Array]:
        return lambda prediction, batch: function(prediction, batch["y"], batch.get("mask"))

    headline, errors = headline_of(dataset), field_errors(dataset) | surface_errors(dataset)
    metrics = {name: metric(function) for name, function in errors.items()}
    metrics |= {"mse": metric(losses.mean_squared_error), "r2": metric(losses.r_squared)}

    if dataset.mesh_of is not None:
        metrics |= part_metrics(list(dataset.channels.targets), dataset.channels.scales)

    def compare(prediction: Array, batch: Batch) -> Array:
        value = losses.or_zero(metrics[headline](prediction, batch))
        if not gradient_weight:
            return value
        whole = (prediction + dataset.offset, batch["y"] + dataset.offset)
        return value + gradient_weight * losses.or_zero(losses.relative_gradient_l2(*whole, dataset.grid_shape))

    if gradient_weight:
        metrics["loss"] = compare
    if original_metric:
        constants = (ORIGINAL_LPBF_MEAN, ORIGINAL_LPBF_STD)
        metrics["original_rel_l2"] = lambda prediction, batch: losses.original_relative_l2(
            prediction + dataset.offset, batch["y"] + dataset.offset, batch.get("mask"), *constants
        )

    def seen(batch: Batch, key: Array) -> Batch:
        """Return what a training step sees of a batch."""
        if symmetries:
            number = random_symmetries(jax.random.fold_in(key, 2), batch["x"].shape[0])
            batch = {**batch, "x": turned(batch["x"], number)}
        return on_some_points(batch, key) if points_per_step else batch

    def on_some_points(batch: Batch, key: Array) -> Batch:
        samples, points = batch["x"].shape[:2]
        sizes = {"samples": samples, "points": points, "count": points_per_step}
        chosen = some_points(jax.random.fold_in(key, 1), **sizes, mask=batch.get("mask"))
        some = {
            name: jax.vmap(lambda v, c: v[c])(value, chosen) if value.ndim > 1 else value
            for name, value in batch.items()
        }
        return {name: value for name, value in some.items() if name != "mask"} if all_real else some

    def values(params: Params, batch: Batch, key: Array) -> Array:
        there = seen(batch, key)
        return compare(predict(params, there, key), there)

    def statistics(params: Params, batch: Batch, key: Array) -> Mapping[str, object]:
        there = seen(batch, key)
        given = {"features": there.get("fx"), "time": there.get("time"), "key": key}
        return call.statistics(params, there["x"], there.get("mask"), **given)

    arrays = task_arrays(dataset, points_multiple)
    if points_per_step:
        arrays["points_per_sample"] = min(points_per_step, arrays["points_per_sample"])
    return Task(
        **arrays,
        predict=predict,
        loss=Loss.per_sample(values, None if dataset.spread_fields else relative_counts(dataset)),
        metrics=metrics,
        headline=headline,
        diagnostics=statistics,
        diagnostics_every=diagnostics,
    )


def some_points(
    key: Array, *, samples: int, points: int, count: int, mask: Bool[Array, "B N"] | None = None
) -> Int[Array, "B _"]:
    """Return `count` distinct random points of each sample, the same on all devices that share a sample.

    Of points with a mask the real ones come first, which are all of a sample that has no more.
    """
    keys = jax.random.split(key, samples)
    if mask is None:
        return jax.vmap(lambda key: jax.random.permutation(key, points)[:count])(keys)
    ranks = jnp.where(mask, jax.vmap(lambda key: jax.random.uniform(key, (points,)))(keys), -1.0)
    return jax.lax.top_k(ranks, min(count, points))[1]


def check_model_takes(points_per_piece: int, diagnostics: int, call_inputs: Collection[str]) -> None:
    """Raise UserError if models whose call takes `call_inputs` have no pieces or statistics, and these are wanted."""
    if points_per_piece < 0:
        raise UserError(f"task.points_per_piece={points_per_piece} must not be negative; 0 predicts all points at once")
    if points_per_piece and "points_per_piece" not in call_inputs:
        raise UserError(
            f"task.points_per_piece={points_per_piece}, but this model type predicts all points at once; set it to 0 "
            "or take a model of FLARE or FLARE++"
        )
    if diagnostics and "return_statistics" not in call_inputs:
        raise UserError(
            f"task.diagnostics={diagnostics}, but the mixers of this model type say nothing of themselves; set it to "
            "0 or take a model of FLARE++ or of its rivals"
        )


def _check_inputs(dataset: PDEDataset, call_inputs: Collection[str]) -> None:
    there = {"fx": dataset.train.fx, "time": dataset.train.time}
    unknown = [name for name, value in there.items() if value is not None and name not in call_inputs]
    if unknown:
        raise UserError(
            f"data set {dataset.name} has the input {unknown[0]!r}, which this model type does not take; choose another"
        )


def _check_options(dataset: PDEDataset, gradient_weight: float, points_per_step: int) -> None:
    if gradient_weight < 0:
        raise UserError(f"task.gradient_weight={gradient_weight} must not be negative; 0 leaves the gradient out")
    if gradient_weight and (dataset.grid_shape is None or len(dataset.grid_shape) != 2):
        raise UserError(
            f"task.gradient_weight={gradient_weight} needs a grid of two axes, which data set {dataset.name} has not; "
            "set it to 0"
        )
    if gradient_weight and points_per_step:
        raise UserError(
            f"data.points_per_step={points_per_step} leaves no grid for task.gradient_weight={gradient_weight}; set "
            "one of them to 0"
        )
    points = dataset.train.x.shape[1]
    if not 0 <= points_per_step <= points:
        raise UserError(
            f"data.points_per_step={points_per_step}, but samples of {dataset.name} have up to {points} points; choose "
            f"from 1 to {points}, or 0 for all"
        )
    if points_per_step and dataset.train.edges is not None:
        raise UserError(
            f"data.points_per_step={points_per_step} would leave parts of a graph, and this model type sends messages "
            "along its edges; set it to 0"
        )
