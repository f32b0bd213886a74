"""A one-layer problem that trains in microseconds, for tests of the training system itself."""

import jax
import jax.numpy as jnp
import numpy as np

from configs.common import pde_config
from experiments.training.task import Task


def toy_task(samples: int = 24, points: int = 8, dtype=np.float32) -> Task:
    """Linear regression of [S, N, 2] onto [S, N, 1] with a squared loss per sample."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, points, 2)).astype(dtype)
    y = (x @ np.array([[1.0], [-2.0]]) + 0.1 * rng.normal(size=(samples, points, 1))).astype(dtype)

    def predict(params, batch, key):
        return batch["x"] @ params["a.kernel"] + params["a.bias"]

    def loss(prediction, batch):
        return jnp.mean(jnp.square(prediction - batch["y"]), axis=(1, 2))

    data = {"x": x, "y": y}
    test = {name: value[:7] for name, value in data.items()}
    return Task(data, {"test": test}, predict, loss, {"error": loss}, "error", points)


def toy_params() -> dict[str, jax.Array]:
    return {"a.kernel": jnp.array([[0.5], [0.25]]), "a.bias": jnp.zeros(1)}


def toy_config(**train):
    config = pde_config("elasticity")
    config.train.update({"epochs": 4, "batch_size": 4, **train})
    config.optimizer.learning_rate = 0.2
    return config
