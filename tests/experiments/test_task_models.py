"""Models of every kind of input on the tasks in time: options from the data, shapes of losses and predictions."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs.common import model_section
from experiments.pdebench import models
from experiments.training.tasks import build_task
from experiments.training.tasks.inputs import input_channels
from flare_jax import params as model_params
from tests.experiments.training import fields
from tests.experiments.training.toy import losses_of

SMALL = {
    "channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4, "num_slices": 4, "num_modes": 4,
    "num_supernodes": 4, "max_degree": 4, "k": 4,
}  # fmt: skip
ON_THE_GRID = {"grid_shape": "data", "unified_pos": True}
DATASETS = {
    "autoregressive": lambda: fields.autoregressive(points=6, grid_shape=(2, 3)),
    "time_conditioned": lambda: fields.time_conditioned(points=6),
    "mesh_series": lambda: fields.mesh_series(padding=2),
    "steady": fields.clouds,
}


def _task(model_type, dataset, **options):
    given = {name: size for name, size in SMALL.items() if name in model_section(model_type)}
    if model_type == "upt":
        given |= {"coord_min": "data", "coord_scale": "data", "radius": 10.0}
    config = ConfigDict({"model": model_section(model_type, {**given, **options}), "mesh": {"data": 1, "points": 1}})
    config.train = ConfigDict({"dtype": "float32"})
    inputs = models.call_inputs(model_type)
    resolved = models.model_options(config.model, models.data_facts(dataset))
    model = models.build(config, resolved, input_channels(dataset, inputs), dataset.c_out, 0)
    graphdef, params = model_params.split(model)
    return build_task(dataset, model_params.apply_fn(graphdef), 1, inputs, {}), params


def _check(dataset, task, params):
    batch = {name: jnp.asarray(value[:2]) for name, value in task.train.items()}
    frames = dataset.train.y.shape[2] - (dataset.kind == "mesh_series")
    shape = jax.eval_shape(lambda p, b: task.predict(p, b, None), params, batch)
    assert shape.shape == (2, dataset.train.y.shape[1], *((frames,) if dataset.kind != "steady" else ()), dataset.c_out)
    batch["window"] = jnp.zeros(2, int)
    losses = jax.eval_shape(lambda p, b: losses_of(task, p, b, jax.random.key(0)), params, batch)
    assert losses.shape == (2,)


@pytest.mark.parametrize("model_type", ["flare", "lno", "upt", "transformer", "transolver", "gnot"])
@pytest.mark.parametrize("kind", DATASETS)
def test_models_get_what_they_take(model_type, kind):
    dataset = DATASETS[kind]()
    if model_type in ("transolver", "gnot") and kind in ("mesh_series", "steady"):
        pytest.skip("the same path as for flare and lno")
    _check(dataset, *_task(model_type, dataset))


@pytest.mark.parametrize("model_type", ["transolver", "gnot"])
def test_models_on_the_grid_of_the_frames(model_type):
    dataset = DATASETS["autoregressive"]()
    _check(dataset, *_task(model_type, dataset, **ON_THE_GRID))
