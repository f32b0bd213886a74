"""PerceiverIO, LNO, GNOT, UPT, loopy and unloopy against plain numpy, their sizes and their initial parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flare_jax.convert import to_torch
from flare_jax.models import MODELS, build_model
from flare_jax.models.upt import check_supernodes
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from tests.flare_jax.counting import count_of
from tests.flare_jax.models import naive_operators, naive_upt
from tests.flare_jax.models.cases import CASES, build_perturbed, inputs, points
from tests.flare_jax.models.cases_operators import CASES as OPERATOR_CASES
from tests.numerics import assert_close, rms_ratio

pytestmark = pytest.mark.slow


def naive_prediction(model_type, options, state, arguments):
    """Return what the plain version of the model predicts."""
    heads, x = options["num_heads"], arguments["x"]
    if model_type in ("loopy", "unloopy"):
        sizes = {"num_blocks": options["num_blocks"], "num_passes": options.get("num_passes", 1), "num_heads": heads}
        return naive_operators.looped_flare(state, x, **sizes, scale=options["attn_scale"], act=options["act"])
    if model_type == "perceiverio":
        return naive_operators.perceiver_io(state, x, num_heads=heads, act=options["act"])
    if model_type == "lno":
        return naive_operators.lno(state, x, arguments.get("fx"), num_heads=heads, act=options["act"])
    if model_type == "gnot":
        chosen = {name: options[name] for name in ("act", "attn_type", "grid_shape", "ref") if name in options}
        chosen["drop_input"] = options.get("unified_pos_drop_input", False)
        return naive_operators.gnot(state, x, arguments.get("fx"), arguments.get("time"), num_heads=heads, **chosen)
    count = min(options["num_supernodes"], x.shape[1])
    supernodes = np.stack([[i * x.shape[1] // count for i in range(count)]] * len(x))
    chosen = {name: options[name] for name in ("space_dim", "coord_min", "radius", "max_degree", "coord_scale")}
    return naive_upt.forward(state, x, supernodes, num_heads=heads, **chosen)


def compare_with_numpy(case, arguments, **changes):
    # Of several blocks the golden files are.
    changes = (CASES[case].small if CASES[case].small.keys() == {"num_blocks"} else {}) | changes
    graphdef, params = build_perturbed(case, **changes)
    model_type, options = CASES[case].model_type, CASES[case].options | changes
    expected = naive_prediction(model_type, options, to_torch(model_type, params), arguments)
    assert_close(case, jax.jit(apply_fn(graphdef))(params, **arguments), expected, 2e-5)


@pytest.mark.parametrize("case", OPERATOR_CASES)
def test_prediction(case):
    compare_with_numpy(case, inputs(case))


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("loopy", {"num_passes": 1, "rmsnorm": False, "out_proj_norm": True, "act": None}),
        ("unloopy", {"shared_ffn": False, "shared_att": False, "num_layers_gating_proj": -1}),
        ("unloopy", {"shared_ffn": False, "gating": False}),
        ("unloopy", {"shared_att": False, "rmsnorm": False, "out_proj_norm": True, "act": None}),
        ("perceiverio", {"cross_attn": False}),
        ("perceiverio", {"act": None}),
        ("lno", {"fun_dim": None, "num_layers_mlp": 0}),
        ("gnot", {"time_input": False, "fun_dim": 0, "act": "gelu", "num_experts": 1}),
        ("gnot", {"time_input": False, "channel_dim": 9}),
        ("gnot_grid", {"unified_pos_drop_input": False, "attn_type": "l1", "ref": 3}),
        ("gnot_grid", {"unified_pos_drop_input": False, "fun_dim": 2, "grid_shape": (4, 3)}),
        ("gnot_grid", {"unified_pos_drop_input": True, "fun_dim": 2, "grid_shape": (12,)}),
        ("upt", {"num_supernodes": 20, "space_dim": 3, "coord_min": None, "max_degree": 50}),
        ("upt", {"num_encoder_blocks": 2, "num_approximator_blocks": 0, "num_decoder_blocks": 0, "max_degree": 1}),
    ],
    ids=str,
)
def test_prediction_with_other_options(case, changes):
    arguments = inputs(case)
    if "fun_dim" in changes:
        arguments.pop("fx", None)
        if changes["fun_dim"]:
            arguments["fx"] = points(2, CASES[case].num_points, changes["fun_dim"])
    if changes.get("time_input") is False:
        del arguments["time"]
    compare_with_numpy(case, arguments, **changes)


@pytest.mark.parametrize("act", ["sigmoid", "relu", "leaky_relu", "ELU", "softplus", "silu", "gelu"])
def test_activations_of_lno_and_gnot(act):
    for case, changes in (("lno", {"fun_dim": None}), ("gnot_grid", {"attn_type": "l1"})):
        compare_with_numpy(case, {"x": inputs(case, b=1)["x"]}, num_blocks=1, act=act, **changes)


@pytest.mark.parametrize(
    ("model_type", "in_dim", "options", "expected"),
    [
        ("loopy", 2, {"num_latents": 64, "num_passes": 3}, 592641),
        ("unloopy", 2, {"num_latents": 64}, 592641),
        # Seven of eight feed-forward parts, or attentions, of width 64 are gone.
        ("unloopy", 2, {"num_latents": 64, "shared_ffn": True}, 592641 - 7 * 5 * 4160),
        ("unloopy", 2, {"num_latents": 64, "shared_att": True}, 592641 - 7 * (11 * 4160 + 4096)),
        ("unloopy", 2, {"num_latents": 64, "gating": True}, 592641 + 8 * 5 * 4160),
        ("perceiverio", 2, {"channel_dim": 128, "num_latents": 512}, 1864833),
        ("perceiverio", 2, {"channel_dim": 128, "num_latents": 512, "cross_attn": True}, 1866881),
        ("lno", 2, {"channel_dim": 192, "num_layers_mlp": 3}, 1831745),
        ("lno", 3, {}, 762241),
        ("lno", 2, {"num_blocks": 8}, 1291905),
        ("gnot", 2, {"num_blocks": 8, "mlp_ratio": 2.0}, 4870553),
        (
            "gnot",
            3,
            {
                "num_blocks": 8,
                "mlp_ratio": 2.0,
                "grid_shape": (85, 85),
                "unified_pos": True,
                "unified_pos_drop_input": True,
            },
            4904345,
        ),
        ("upt", 2, {}, 2082817),
    ],
)
def test_sizes(model_type, in_dim, options, expected):
    known = MODELS[model_type].options()
    default = known["num_blocks"].default if "num_blocks" in known else 1

    def build(num_blocks):
        changed = {**options, "num_blocks": num_blocks} if "num_blocks" in known else options
        return build_model(model_type, in_dim, 1, changed, rngs=ParameterKeys(0))

    assert count_of(build, options.get("num_blocks", default)) == expected


@pytest.mark.parametrize("dropped", [False, True])
def test_unified_positions_keep_the_input_unless_told_otherwise(dropped):
    """GNOT's original drops x, which then reaches the gates alone; with one expert it has no influence at all."""
    x = inputs("gnot_grid")["x"]
    graphdef, params = build_perturbed("gnot_grid", num_experts=1, num_blocks=1, unified_pos_drop_input=dropped)
    apply = jax.jit(apply_fn(graphdef))
    assert (rms_ratio(apply(params, x + 1), apply(params, x)) < 1e-6) == dropped


def test_dropout_needs_a_key_and_depends_on_it():
    graphdef, params = build_perturbed("gnot", num_blocks=1)
    apply = jax.jit(apply_fn(graphdef))
    evaluated = apply(params, **inputs("gnot"))
    first, again, other = (apply(params, key=jax.random.key(k), **inputs("gnot")) for k in (0, 0, 1))
    assert_close("same key", first, again, 0.0)
    assert rms_ratio(first, evaluated) > 1e-2
    assert rms_ratio(first, other) > 1e-2
    without = build_perturbed("gnot", num_blocks=1, dropout=0.0)[0]
    assert_close("rate 0", jax.jit(apply_fn(without))(params, key=jax.random.key(0), **inputs("gnot")), evaluated, 1e-5)


@pytest.mark.parametrize(("case", "count"), [("loopy", 4), ("unloopy", 2)])
def test_scores(case, count):
    """There is one array per application of a block, and asking for them does not change the prediction."""
    graphdef, params = build_perturbed(case)
    apply = jax.jit(apply_fn(graphdef), static_argnames="return_scores")
    y, scores = apply(params, **inputs(case), return_scores=True)
    assert_close("prediction", y, apply(params, **inputs(case)), 1e-6)
    assert [s.shape for s in scores] == [(2, 2, 5, 11)] * count
    assert len({float(s.sum()) for s in scores}) == count


def test_time_may_have_a_second_axis():
    graphdef, params = build_perturbed("gnot", num_blocks=1)
    apply = jax.jit(apply_fn(graphdef))
    arguments = inputs("gnot")
    column = apply(params, **arguments | {"time": arguments["time"][:, None]})
    assert_close("column", column, apply(params, **arguments), 0.0)


def test_without_observations_lno_reads_the_points():
    graphdef, params = build_perturbed("lno", num_blocks=1, fun_dim=None)
    apply = jax.jit(apply_fn(graphdef))
    x = inputs("lno")["x"]
    assert_close("same", apply(params, x), apply(params, x, fx=x), 0.0)
    assert rms_ratio(apply(params, x, fx=2 * x), apply(params, x)) > 1e-2


@pytest.mark.parametrize(("model_type", "width"), [("lno", 32), ("upt", 24)])
def test_uniform_initial_parameters(model_type, width):
    """LNO everywhere, UPT in its pooling: kernels and biases ~ Uniform(±1/√C_in)."""
    model = build_model(model_type, 2, 1, {"channel_dim": width, "num_heads": 2}, rngs=ParameterKeys(0))
    params = {name: np.asarray(value) for name, value in split(model)[1].items()}
    chosen = {name for name in params if model_type == "lno" or name.startswith("supernode_pooling")}
    standard = []
    for name in chosen:
        parent, leaf = name.rsplit(".", 1)
        if leaf in ("kernel", "bias") and f"{parent}.kernel" in params:
            standard.append(params[name].ravel() * np.sqrt(params[f"{parent}.kernel"].shape[0]))
    standard = np.concatenate(standard)
    assert np.abs(standard).max() <= 1
    assert abs(standard.mean()) < 5 * np.sqrt(1 / 3 / standard.size)
    assert abs((standard**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / standard.size)


def test_other_initial_parameters():
    """Kernels ~ Normal(0, 0.02²), latents of PerceiverIO ~ Normal(0, 1), of UPT the same cut at ±2."""
    perceiver = split(build_model("perceiverio", 2, 1, {"channel_dim": 64, "num_blocks": 1}, rngs=ParameterKeys(0)))[1]
    upt = split(build_model("upt", 2, 1, {"channel_dim": 64, "num_latents": 256}, rngs=ParameterKeys(0)))[1]
    gnot = split(build_model("gnot", 2, 1, {"channel_dim": 64, "num_blocks": 1}, rngs=ParameterKeys(0)))[1]
    assert abs(np.std(perceiver["encoder.latent_q"]) - 1) < 0.05
    assert np.abs(upt["query"]).max() <= 2
    # The deviation of a normal distribution that is cut at twice its own.
    assert abs(np.std(upt["query"]) - 0.8796) < 0.03
    for params in (perceiver, upt, gnot):
        kernels = [
            np.ravel(value)
            for name, value in params.items()
            if name.endswith("kernel") and not name.startswith("supernode_pooling")
        ]
        assert abs(np.concatenate(kernels).std() - 0.02) < 1e-3
    assert 0 <= np.min(gnot["placeholder"]) < np.max(gnot["placeholder"]) <= 1 / 64


@pytest.mark.parametrize(
    ("model_type", "options", "message"),
    [
        ("loopy", {"num_latents": 4, "num_passes": 0}, "num_passes is 0 but must be an integer of at least 1"),
        ("loopy", {"num_latents": 4, "kv_proj_mlp_ratio": -1.0}, "kv_proj_mlp_ratio is -1.0 but must be a positive"),
        ("loopy", {"num_latents": 4, "num_layers_kv_proj": -2}, "num_layers_kv_proj is -2"),
        ("unloopy", {"num_latents": 4, "gating_proj_mlp_ratio": 0.0}, "gating_proj_mlp_ratio is 0.0"),
        ("unloopy", {"num_latents": 4, "num_layers_gating_proj": -2}, "num_layers_gating_proj is -2"),
        ("unloopy", {"num_latents": 4, "num_layers_kv_proj": -2}, "num_layers_kv_proj is -2"),
        ("perceiverio", {"num_latents": 0}, "num_latents is 0"),
        ("perceiverio", {"num_heads": 5}, "num_heads 5 does not divide channel_dim 64"),
        ("perceiverio", {"act": "tanh"}, "act is 'tanh'"),
        ("lno", {"num_modes": 0}, "num_modes is 0"),
        ("lno", {"num_layers_mlp": -1}, "num_layers_mlp is -1 but must be an integer of at least 0"),
        ("lno", {"fun_dim": 0}, "fun_dim is 0 but must be an integer of at least 1"),
        ("lno", {"act": "GELU"}, "act is 'GELU'"),
        ("gnot", {"num_experts": 0}, "num_experts is 0"),
        ("gnot", {"attn_type": "l3"}, "attn_type is 'l3'.* but must be one of 'l1', 'galerkin', 'l2'"),
        ("gnot", {"dropout": 1.0}, "dropout is 1.0 but must be a number of at least 0 and below 1"),
        ("gnot", {"unified_pos": True}, "unified_pos is True but grid_shape is None; give the shape of the grid"),
        (
            "gnot",
            {"unified_pos_drop_input": True},
            "unified_pos_drop_input is True but has no effect with unif",
        ),
        ("gnot", {"grid_shape": (3, 0)}, r"grid_shape is \(., 0\) but must be a tuple of integers of at least 1"),
        ("upt", {"space_dim": 3}, "space_dim is 3 but in_dim is 2; choose space_dim among 1 to 2"),
        ("upt", {"coord_min": (0.0,)}, r"coord_min is \(0.0,\) but there are 2 coordinates"),
        ("upt", {"coord_scale": 0.0}, "coord_scale is 0.0 but must be a positive number"),
        ("upt", {"radius": -1.0}, "radius is -1.0 but must be a positive number"),
        ("upt", {"max_degree": 0}, "max_degree is 0"),
        ("upt", {"num_supernodes": 0}, "num_supernodes is 0"),
        ("upt", {"num_encoder_blocks": -1}, "num_encoder_blocks is -1 but must be an integer of at least 0"),
        ("upt", {"channel_dim": 3, "num_heads": 1}, "channel_dim is 3 but the embedding of 2 coordinates needs at"),
    ],
)
def test_bad_options(model_type, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        nnx.eval_shape(lambda: build_model(model_type, 2, 1, options, rngs=ParameterKeys(0)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (
            "lno",
            {"fx": jnp.ones((2, 11, 3))},
            r"fx has shape \(2, 11, 3\) but must be \[B, N, fun_dim\] = \(2, 11, 4\)",
        ),
        ("lno", {"fx": None}, "fx is None but fun_dim is 4; pass function features"),
        ("gnot", {"fx": None}, "fx is None but fun_dim is 2"),
        ("gnot", {"time": None}, "time is None but"),
        ("gnot_grid", {"time": jnp.ones(2)}, r"time has shape \(2,\) but"),
        ("gnot_grid", {"x": jnp.ones((2, 11, 3))}, r"x has 11 points but grid_shape \(3, 2, 2\)"),
    ],
)
def test_bad_inputs(case, changes, message):
    graphdef, params = build_perturbed(case)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(apply_fn(graphdef), params, **inputs(case) | changes)


@pytest.mark.parametrize(
    ("supernode_idx", "message"),
    [
        (jnp.zeros((3, 4), int), r"supernode_idx has shape \(3, 4\) but must be \[B, S\] with B = 2"),
        (jnp.zeros(4, int), r"supernode_idx has shape \(4,\) but must be \[B, S\]"),
        (jnp.zeros((2, 4)), "supernode_idx has dtype float32 but must be an integer"),
    ],
)
def test_bad_supernodes(supernode_idx, message):
    with pytest.raises(ValueError, match=message):
        check_supernodes(supernode_idx, (2, 11))
