"""The recommended options learn to recall the values of keys that stood in a row once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data_pipeline.language.recall import make_recall
from flare_jax import params as model_params
from flare_jax.models.language import build_language_model, size_options
from flare_jax.parameter_keys import ParameterKeys
from tests.flare_jax.models.language.models import RECOMMENDED

PAIRS, LENGTH, VOCABULARY, BATCH, STEPS = 4, 16, 32, 24, 100


def test_a_hundred_steps_teach_recall():
    """A model whose keys start as those of their own token answers two fifths by then."""
    rows = make_recall(PAIRS, LENGTH, VOCABULARY, STEPS * BATCH, 100, 0)
    options = {**size_options("causal_flare", "recall32"), **RECOMMENDED}
    model = build_language_model("causal_flare", VOCABULARY, options, context=LENGTH, rngs=ParameterKeys(0))
    graphdef, params = model_params.split(model)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(5e-3, 0.9, 0.95))

    def loss(params, ids, labels):
        losses, hits = model_params.merge(graphdef, params).scores(ids, labels, most=PAIRS)
        return losses.mean(), hits.mean()

    def step(carry, batch):
        params, state = carry
        gradients = jax.grad(loss, has_aux=True)(params, *batch)[0]
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train_and_test(params, train, test):
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), train)
        return loss(params, *test)[1]

    def arrays(split, *shape):
        names = ("input_ids", "labels")
        return tuple(jnp.asarray(split[name].astype(np.int32).reshape(*shape, LENGTH)) for name in names)

    accuracy = train_and_test(params, arrays(rows.train, STEPS, BATCH), arrays(rows.test, -1))
    assert accuracy > 0.95
