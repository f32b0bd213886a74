"""LaMO against a plain numpy version, its defaults, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import to_torch
from flare_jax.mixers.state_space import BidirectionalMamba2, Hydra
from flare_jax.models import LaMO, build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn
from tests.flare_jax.models import naive_lamo
from tests.flare_jax.models.cases import CASES, build, build_perturbed, inputs
from tests.numerics import assert_close


def build_shapes(**options):
    """Return a LaMO for two coordinates without values of its parameters."""
    return nnx.eval_shape(lambda: build_model("lamo", 2, 1, options, rngs=ParameterKeys(0)))


@pytest.mark.parametrize(
    ("case", "changes", "temperature"),
    [
        ("lamo", {}, None),
        ("lamo", {"num_slices": 70, "num_blocks": 1, "conv_width": 1}, None),
        ("lamo", {}, 0.05),
        ("lamo_grid", {}, None),
        ("lamo_grid", {"unified_pos_drop_input": False, "grid_shape": (2, 2, 3), "expand": 1}, 0.05),
        ("lamo_grid", {"unified_pos_drop_input": False, "unified_pos": False, "time_input": True}, 7.0),
    ],
)
def test_prediction(case, changes, temperature):
    graphdef, params = build_perturbed(case, **changes)
    if temperature is not None:
        # Outside of [0.1, 5] it is clamped on structured grids, and only there.
        params |= {name: temperature + 0 * params[name] for name in params if name.endswith("temperature")}
    sizes = nnx.eval_shape(lambda: build(case, **changes)).blocks[0].att.token_mixer.sizes
    options = dict(CASES[case].options) | changes
    arguments = inputs(case) | ({"time": jnp.asarray([0.3, 50.0])} if options.get("time_input") else {})
    expected = naive_lamo.forward(
        to_torch("lamo", params),
        **arguments,
        options=options,
        sizes={"state_dim": sizes.state_dim, "num_groups": sizes.num_groups, "head_dim": sizes.head_dim},
    )
    assert_close(case, jax.jit(apply_fn(graphdef))(params, **arguments), expected, 2e-5)


@pytest.mark.parametrize(
    ("grid_shape", "mixer", "inner_dim", "heads", "groups"),
    [(None, Hydra, 256, 4, 2), ((7, 9), BidirectionalMamba2, 512, 16, 1)],
)
def test_defaults(grid_shape, mixer, inner_dim, heads, groups):
    model = build_shapes(grid_shape=grid_shape)
    assert isinstance(model, LaMO)
    assert (len(model.blocks), model.blocks[-1].att.head_dim, model.blocks[0].att.slice_proj.bias.shape) == (
        5,
        32,
        (32,),
    )
    token_mixer = model.blocks[0].att.token_mixer
    assert type(token_mixer) is mixer
    sizes = token_mixer.sizes
    assert (sizes.inner_dim, sizes.num_heads, sizes.num_groups) == (inner_dim, heads, groups)
    assert (sizes.state_dim, sizes.conv_width) == (64, 3)


def test_the_temperature_has_no_gradient_outside_of_its_bounds_on_a_grid():
    graphdef, params = build_perturbed("lamo_grid", num_blocks=1)
    name = "blocks.0.att.temperature"
    params[name] = params[name].at[0, 0].set(6.0)
    gradient = jax.jit(jax.grad(lambda params: apply_fn(graphdef)(params, **inputs("lamo_grid")).sum()))
    grads = np.asarray(gradient(params)[name]).ravel()
    assert grads[0] == 0
    assert grads[1] != 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_dim": 96}, "state_space_head_dim 64 does not divide the inner width 96 = expand 1 · 96"),
        ({"channel_dim": 64}, "num_groups 2 does not divide the 1 state-space heads"),
        ({"conv_width": 4}, "conv_width is 4 but a centred convolution needs an odd one; use 5"),
        ({"state_dim": 0}, "state_dim is 0"),
        ({"num_slices": 0}, "num_slices is 0"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"num_heads": 7}, "num_heads 7 does not divide channel_dim 256"),
        ({"act": "swish"}, "act is 'swish'"),
        ({"grid_shape": ()}, "grid_shape is .. but must be a tuple of 1 to 3 sizes"),
        ({"unified_pos": True}, "unified_pos is True but grid_shape is None"),
        ({"dropout": 1.5}, "dropout is 1.5"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message) as raised:
        build_shapes(**options)
    assert "\n" not in str(raised.value)


def test_points_must_be_those_of_the_grid():
    with pytest.raises(ValueError, match=r"x has 11 points but grid_shape \(3, 4\) has 12"):
        jax.eval_shape(lambda: build("lamo_grid")(**inputs("lamo_grid", n=11)))
