"""The FLARE models against a plain numpy version, their sizes, and their initial parameters."""

import jax
import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import to_torch
from flare_jax.models import build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, count_parameters, split
from tests.flare_jax.models import naive_flare
from tests.flare_jax.models.cases import CASES, build_perturbed, points
from tests.flare_jax.models.cases_flare import CASES as FLARE_CASES
from tests.numerics import assert_close


def compare_with_numpy(case, **changes):
    graphdef, params = build_perturbed(case, **changes)
    model_type, options = CASES[case].model_type, CASES[case].options | changes
    scale = options.get("attn_scale", 1.0)
    expected, scores = naive_flare.forward(
        to_torch(model_type, params),
        points(),
        num_blocks=options["num_blocks"],
        num_heads=options["num_heads"],
        scale=(options["channel_dim"] / options["num_heads"]) ** -0.5 if scale == "sqrt" else scale,
        act=options["act"],
    )
    assert_close(case, jax.jit(apply_fn(graphdef))(params, points()), expected, 1e-5)
    return graphdef, params, scores


@pytest.mark.parametrize("case", FLARE_CASES)
def test_prediction(case):
    compare_with_numpy(case)


@pytest.mark.parametrize(
    "changes",
    [
        {"qk_norm": False, "attn_scale": "sqrt", "act": None},
        {"rmsnorm": False, "out_proj_norm": True, "num_layers_in_out_proj": -1},
        {"num_layers_k_proj": 2, "num_layers_v_proj": 1, "v_proj_mlp_ratio": 1.0, "num_layers_ffn": -1},
    ],
    ids=["plain", "layer norm", "depths"],
)
def test_prediction_of_flare_with_other_options(changes):
    compare_with_numpy("flare", **changes)


@pytest.mark.parametrize("case", ["flare", "flare_ablations"])
def test_scores(case):
    graphdef, params, expected = compare_with_numpy(case)
    _, scores = jax.jit(apply_fn(graphdef), static_argnames="return_scores")(params, points(), return_scores=True)
    assert len(scores) == len(expected)
    for block, (actual, wanted) in enumerate(zip(scores, expected, strict=True)):
        assert_close(f"block {block}", actual, wanted, 1e-5)


@pytest.mark.parametrize(
    ("model_type", "options", "expected"),
    [
        ("flare", {"num_latents": 64}, 592641),
        ("flare", {"num_latents": 128}, 625409),
        ("flare", {"num_latents": 256}, 690945),
        ("flare_experimental", {"num_latents": 64}, 592641),
        ("flare_ablations", {"num_latents": 64}, 592641),
        ("flare_ablations", {"num_latents": 64, "shared_latents": True}, 563969),
        ("flare_ablations", {"num_latents": 64, "num_latent_blocks": 1}, 992513),
    ],
)
def test_default_sizes(model_type, options, expected):
    """With default options there are 8 blocks, 8 heads, scale 1, and these numbers of parameters."""
    model = nnx.eval_shape(lambda: build_model(model_type, 2, 1, options, rngs=ParameterKeys(0)))
    assert (len(model.blocks), model.blocks[0].att.num_heads, model.blocks[0].att.scale) == (8, 8, 1.0)
    graphdef, params = split(model)
    assert count_parameters(params) == expected
    y = jax.eval_shape(apply_fn(graphdef), params, jax.ShapeDtypeStruct((3, 17, 2), "float32"))
    assert (y.shape, y.dtype) == ((3, 17, 1), "float32")


def test_initial_distributions():
    """Kernels ~ Normal(0, 0.02²), latents ~ Normal(0, 0.1²), biases 0, scales 1, and no two arrays drawn alike."""
    options = {"channel_dim": 48, "num_blocks": 2, "num_latents": 64, "num_latent_blocks": 1}
    model = build_model("flare_ablations", 2, 1, options, rngs=ParameterKeys(0))
    params = {name: np.asarray(value) for name, value in split(model)[1].items()}
    kernels = [value.ravel() for name, value in params.items() if name.endswith("kernel")]
    latents = [value.ravel() for name, value in params.items() if name.endswith("latent_q")]
    for values, deviation in ((np.concatenate(kernels), 0.02), (np.concatenate(latents), 0.1)):
        standard = values / deviation
        assert abs(standard.mean()) < 5 / np.sqrt(standard.size)
        assert abs(standard.std() - 1) < 5 / np.sqrt(2 * standard.size)
        # A normal distribution has the fourth moment 3, with this deviation of the estimate.
        assert abs((standard**4).mean() - 3) < 5 * np.sqrt(96 / standard.size)
    assert len({value[0] for value in kernels + latents}) == len(kernels) + len(latents)
    assert all(not value.any() for name, value in params.items() if name.endswith("bias"))
    assert all((value == 1).all() for name, value in params.items() if name.endswith("scale"))


def test_initial_parameters_depend_on_the_seed_only():
    def build_with(seed):
        options = {"channel_dim": 8, "num_latents": 8, "num_blocks": 1}
        return split(build_model("flare", 8, 8, options, rngs=ParameterKeys(seed)))[1]

    first, again, other = build_with(0), build_with(0), build_with(1)
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
