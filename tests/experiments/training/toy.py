"""A one-layer problem that trains in microseconds, for tests of the training system itself."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from configs.common import pde_config
from data_pipeline.sequence.dataset import IGNORE_INDEX
from experiments.training import classification
from experiments.training.task import Loss, Task


def toy_task(samples: int = 24, points: int = 8, dtype=np.float32) -> Task:
    """Linear regression of [S, N, 2] onto [S, N, 1] with a squared loss per sample."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, points, 2)).astype(dtype)
    y = (x @ np.array([[1.0], [-2.0]]) + 0.1 * rng.normal(size=(samples, points, 1))).astype(dtype)

    def predict(params, batch, key):
        return batch["x"] @ params["a.kernel"] + params["a.bias"]

    def error(prediction, batch):
        return jnp.mean(jnp.square(prediction - batch["y"]), axis=(1, 2))

    data = {"x": x, "y": y}
    test = {name: value[:7] for name, value in data.items()}
    return Task(data, {"test": test}, predict, Loss.of_prediction(predict, error), {"error": error}, "error", points)


def losses_of(task: Task, params, batch, key=None) -> jax.Array:
    """What the samples of a batch add to the loss, at its first presentation."""
    carry = () if task.loss.empty is None else task.loss.empty(batch)
    return task.loss.of(params, batch, key, carry, jnp.bool_(True)).values


def token_task() -> tuple[Task, dict[str, jax.Array]]:
    """Classification of 8 sequences with 1 to 8 labels each, in which samples weigh as much as they have labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, 8)).astype(np.int32)
    labels[np.arange(8) >= np.array([[7], [1], [3], [2], [8], [1], [4], [2]])] = IGNORE_INDEX
    toy = toy_task()

    def compare(logits, batch):
        return classification.summed_losses(logits, batch["labels"])

    task = replace(
        toy,
        loss=Loss.of_prediction(toy.predict, compare, lambda batch: classification.valid_counts(batch["labels"])),
        train={"x": rng.normal(size=(8, 8, 2)).astype(np.float32), "labels": labels},
    )
    return task, {"a.kernel": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32), "a.bias": jnp.zeros(3)}


def toy_params() -> dict[str, jax.Array]:
    return {"a.kernel": jnp.array([[0.5], [0.25]]), "a.bias": jnp.zeros(1)}


def toy_config(**train):
    config = pde_config("elasticity")
    config.train.update({"epochs": 4, "batch_size": 4, **train})
    config.optimizer.learning_rate = 0.2
    return config
