"""FLARE++ and its rivals: formulas in float64, sizes, initial state, limits, conversion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.training.optimizers import parameter_group
from flare_jax.convert import from_torch, to_torch
from flare_jax.convert.originals import find_original
from flare_jax.layers.norms import normalize
from flare_jax.layers.rotary import ROPE_MODES, RotaryEmbedding
from flare_jax.mixers.adaptive_slice_attention import evaluation_draws
from flare_jax.mixers.attention_statistics import attention_statistics, mean_cosine
from flare_jax.mixers.backbone_mixers import make_mixer
from flare_jax.mixers.flarepp import FlareppAblationsConfig, FlareppConfig
from flare_jax.mixers.gather_points import gather_points
from flare_jax.mixers.heads import merge_heads
from flare_jax.mixers.routing_latents import Combination, LatentParameters, prepare_together
from flare_jax.mixers.synthesized_routing import mix_in_kernels, mix_with_stored_weights
from flare_jax.models import MODELS, build_model
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, merge, split
from kernels import flare_mixer
from kernels.residual_mlp import Norm
from tests.flare_jax.models import naive_backbone
from tests.flare_jax.models.cases import CASES, build_perturbed, points
from tests.flare_jax.models.cases_flarepp import CASES as FLAREPP_CASES
from tests.numerics import assert_close


def complete(case, **changes):
    """Return all options of a case."""
    chosen = CASES[case]
    defaults = {name: o.default for name, o in MODELS[chosen.model_type].options().items()}
    return defaults | dict(chosen.options) | changes


@pytest.mark.parametrize("case", FLAREPP_CASES)
def test_prediction(case):
    """Of one block, for the golden files are of several."""
    graphdef, params = build_perturbed(case, **CASES[case].small)
    model_type, options = CASES[case].model_type, complete(case, **CASES[case].small)
    expected = naive_backbone.forward(model_type, to_torch(model_type, params), points(), options)
    assert_close(case, jax.jit(apply_fn(graphdef))(params, points()), expected, 1e-5)


def test_slices_are_as_noisy_in_evaluation_as_in_training():
    """By default the draws are those of Transolver++; without them the slices are sharper than in training."""
    case, x = "backbone_transolverpp", points()
    (graphdef, params), (quiet, _) = build_perturbed(case, eval_noise=True), build_perturbed(case)
    assert MODELS[case].options()["eval_noise"].default is True
    draws = evaluation_draws(x.shape, blocks=2, heads=2, slices=5)
    found = jax.jit(apply_fn(graphdef))(params, x)
    given = jax.jit(apply_fn(quiet))(params, x, uniforms=draws)
    assert_close("fixed draws", found, given, 1e-6)
    assert not np.allclose(found, jax.jit(apply_fn(quiet))(params, x), rtol=1e-3)


def test_recomputed_blocks_store_less():
    """The same gradients, from less between forward and backward pass."""
    x = jnp.ones((1, 64, 3))

    def stack(remat, num_blocks):
        options = {"channel_dim": 16, "num_blocks": num_blocks, "num_heads": 2, "num_latents": 4, "remat": remat}
        build = functools.partial(build_model, "flarepp", 3, 1, options)
        graphdef, shapes = split(nnx.eval_shape(lambda: build(rngs=ParameterKeys(0))))
        return lambda params: jnp.sum(apply_fn(graphdef)(params, x) ** 2), shapes

    def stored(remat):
        loss, shapes = stack(remat, num_blocks=4)
        return sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda p: jax.vjp(loss, p)[1], shapes)))

    assert stored(True) < 0.6 * stored(False)
    draw = np.random.default_rng(0).standard_normal
    params = {name: jnp.asarray(np.float32(0.3 * draw(leaf.shape))) for name, leaf in stack(True, 1)[1].items()}
    recomputed, kept = (jax.jit(jax.grad(stack(remat, 1)[0]))(params) for remat in (True, False))
    largest = max(float(np.abs(np.asarray(grad)).max()) for grad in kept.values())
    for name, grad in kept.items():
        assert_close(name, recomputed[name], grad, 1e-5, absolute=1e-6 * largest)


@pytest.fixture(scope="module")
def mixer():
    """A gated mixer with the defaults but RMS norms, its inputs, its operands and its output."""
    config = FlareppConfig(channel_dim=16, num_heads=2, num_latents=5, rmsnorm=True, implementation="reference")
    built = make_mixer("flarepp", config, rngs=ParameterKeys(3))
    draw = np.random.default_rng(0).standard_normal
    for name in ("latent_q0", "latent_q_fixed"):
        latents = getattr(built, name)
        latents[...] = jnp.asarray(np.float32(draw(latents.shape)))
    x = jnp.asarray(np.float32(draw((2, 23, 16))))
    return built, x, *jax.jit(lambda x: (built.operands(x), built(x)))(x)


def changed(mixer, **values):
    """Return a copy of the mixer with other parameters."""
    copy = nnx.clone(mixer)
    for name, value in values.items():
        getattr(copy, name)[...] = value
    return copy


def test_a_closed_gate_leaves_the_fixed_queries(mixer):
    built, x, operands, _ = mixer
    closed = changed(built, gate_logit=jnp.full(2, -1e4))

    @jax.jit
    def mixed(x, operands):
        queries = jnp.broadcast_to(operands.latents.combination.fixed, (2, 2, 5, 8))
        heads = flare_mixer(queries, operands.k, operands.v, scale=built.scale)
        return closed(x), built.out_proj(merge_heads(heads))

    assert_close("closed gate", *mixed(x, operands), 1e-6)


def test_the_ablations_with_the_same_switches_are_the_gated_mixer(mixer):
    built, x, _, y = mixer
    switches = {f"{name}_norm": True for name in ("q0", "k0", "v0", "k")} | {"share_k0_v0": True, "use_gate": True}
    switches |= {f"{name}_use_bias": True for name in ("k0", "k", "v")}
    switches |= {"q0_elementwise_affine": True, "k_elementwise_affine": True, "implementation": "reference"}
    config = FlareppAblationsConfig(channel_dim=16, num_heads=2, num_latents=5, rmsnorm=True, **switches)
    other = make_mixer("flarepp_ablations", config, rngs=ParameterKeys(0))
    values = split(built)[1]
    assert {name: v.shape for name, v in split(other)[1].items()} == {name: v.shape for name, v in values.items()}
    gate = jax.nn.sigmoid(values["gate_logit"])
    mixed = jax.jit(merge(split(other)[0], values | {"gate_logit": gate}))
    assert_close("ablations", mixed(x), y, 1e-6)


def test_gathered_queries_are_at_most_of_size_one(mixer):
    built, x, operands, _ = mixer

    @jax.jit
    def gathered(x):
        o = built.operands(x)
        return gather_points(o.latents.q0, o.k0, scale=built.scale)

    def sizes(x):
        return np.sqrt(np.square(gathered(x)).mean(-1))

    assert operands.v0 is None, "shared values are read once, with the keys"
    assert (sizes(x) <= 1 + 1e-6).all()
    assert_close("equal points", sizes(jnp.broadcast_to(x[:, :1], x.shape)), np.ones((2, 2, 5)), 1e-4)


def test_norms_bound_what_they_normalise():
    rng, width = np.random.default_rng(0), 4
    for kind in ("layer", "rms"):
        scale, bias = rng.normal(size=(2, width)).astype(np.float32)
        norm = Norm(scale=scale, bias=bias if kind == "layer" else None, kind=kind, epsilon=1e-6)
        latents = LatentParameters(jnp.ones((2, 3, width)), None, None, None, None, None, None, norm)
        keys = normalize(jnp.asarray(rng.standard_cauchy((2, 2000, 2, width)).astype(np.float32)), norm)
        for rope in (None, *(RotaryEmbedding(2000, mode) for mode in ROPE_MODES)):
            (_, largest) = latents.prepare(sigmoid_gate=True, turned=rope is not None).largest
            longest = jnp.linalg.norm(keys if rope is None else rope(keys), axis=-1).max()
            assert longest <= largest * (1 + 1e-5)
            assert largest < 4 * longest


def test_latents_of_all_blocks_are_made_at_once():
    rng = np.random.default_rng(0)

    def parameters(latents: int, scale: bool = True) -> LatentParameters:
        q0, fixed = rng.normal(size=(2, 2, latents, 4)).astype(np.float32)
        norms = [Norm(scale=x, bias=x, kind="layer", epsilon=1e-5) for x in rng.normal(size=(2, 4)).astype(np.float32)]
        return LatentParameters(
            q0, fixed, rng.normal(size=2).astype(np.float32), norms[0] if scale else None, *norms, None, norms[1]
        )

    for blocks in (
        [parameters(3) for _ in range(3)],
        [parameters(3), parameters(5)],
        [parameters(3), parameters(3, False)],
    ):

        def sums(blocks: list, together: bool) -> list:
            if together:
                return prepare_together(blocks, sigmoid_gate=True)
            return [x.prepare(sigmoid_gate=True) for x in blocks]

        def of(together: bool) -> tuple:
            found, pull_back = jax.vjp(lambda x: sums(x, together), blocks)
            return found, pull_back(jax.tree.map(jnp.cos, found))

        jax.tree.map(lambda a, b: assert_close("latents", a, b, 1e-6), of(True), of(False))

    def norms(count: int) -> int:
        """Return how many norms a program of so many equal blocks computes."""
        blocks = [parameters(3) for _ in range(count)]
        return str(jax.make_jaxpr(lambda x: prepare_together(x, sigmoid_gate=True))(blocks)).count("rsqrt")

    assert norms(3) == norms(1) > 0


@pytest.mark.parametrize("name", ["latent_q0", "latent_q_fixed"])
def test_latents_act_through_their_direction(mixer, name):
    built, x, _, y = mixer
    assert_close(name, jax.jit(changed(built, **{name: 10 * getattr(built, name)[...]}))(x), y, 1e-4)


def test_the_map_from_values_to_outputs_has_the_rank_of_the_latents(mixer):
    built, _, operands, _ = mixer
    # The values of a head are linear in its output; unit vectors for values make the matrix itself.
    units = jnp.broadcast_to(jnp.eye(23)[None, :, None], (2, 23, 2, 23))
    mix = jax.jit(lambda o: mix_in_kernels(o, None, scale=built.scale, implementation="reference"))
    matrix = mix(operands._replace(v=units))
    singular = np.linalg.svd(np.asarray(matrix, np.float64).transpose(0, 2, 1, 3), compute_uv=False)
    assert ((singular > 1e-6 * singular[..., :1]).sum(-1) == 5).all()


def test_dropout_of_nothing_is_no_dropout(mixer):
    built, _, operands, _ = mixer

    @jax.jit
    def mixed(operands, mask):
        stored = mix_with_stored_weights(operands, mask, scale=built.scale, drop_rate=0.0, key=None)
        return stored, mix_in_kernels(operands, mask, scale=built.scale)

    assert_close("stored weights", *mixed(operands, np.arange(23) < np.array([[23], [9]])), 1e-5)


def test_gathered_queries_are_not_rounded_before_they_are_combined(mixer, monkeypatch):
    built, _, operands, _ = mixer
    seen, combine = [], Combination.__call__

    def recorded(combination, gathered):
        seen.append(gathered.dtype)
        return combine(combination, gathered)

    monkeypatch.setattr(Combination, "__call__", recorded)
    mix = functools.partial(mix_with_stored_weights, scale=built.scale, drop_rate=0.1, key=jax.random.key(0))
    points = jax.tree.map(lambda x: x.astype(jnp.bfloat16), operands._replace(latents=None))
    assert jax.eval_shape(mix, points._replace(latents=operands.latents), None).dtype == jnp.bfloat16
    assert seen == [jnp.float32]


def test_transolver3_is_transolver():
    """The one difference is where the 1e-5 of the means stands."""
    graphdef, params = build_perturbed("backbone_transolver")
    state = to_torch("backbone_transolver", params)
    for i in range(2):
        block = f"blocks.{i}.mixer"
        for leaf in ("weight", "bias"):
            halves = [state.pop(f"{block}.in_project_{part}.{leaf}") for part in ("fx", "x")]
            state[f"{block}.in_project.{leaf}"] = np.concatenate(halves)
            state[f"{block}.to_out_linear.{leaf}"] = state.pop(f"{block}.to_out.0.{leaf}")
    other, template = build_perturbed("backbone_transolver3")
    y = jax.jit(apply_fn(other))(from_torch("backbone_transolver3", template, state), points())
    assert_close("transolver3", y, jax.jit(apply_fn(graphdef))(params, points()), 1e-5)


def test_an_explicit_residual_is_the_same_function_with_decay_towards_the_identity():
    _, params = build_perturbed("backbone_flarepp")
    explicit = [name for name in params if name.endswith("k_proj.fc.kernel")]
    state, differences = (to_torch("backbone_flarepp", params, differences=flag) for flag in (False, True))
    assert len(explicit) == 2
    for i, name in enumerate(explicit):
        weight = f"blocks.{i}.mixer.k_proj.weight"
        assert np.allclose(state[weight], np.asarray(params[name]).T + np.eye(12))
        assert np.array_equal(differences[weight], np.asarray(params[name]).T)
    inside, template = build_perturbed("backbone_flarepp", explicit_residual=False)
    y = jax.jit(apply_fn(inside))(from_torch("backbone_flarepp", template, state), points())
    assert_close("residual", y, jax.jit(apply_fn(build_perturbed("backbone_flarepp")[0]))(params, points()), 1e-5)


def test_arguments_of_the_original_backbone():
    arguments = {"in_dim": 3, "out_dim": 1, "num_heads": None, "rmsnorm": None, "mlp_ratio_ffn": 4.0}
    mixer = {"kind": "flarepp_ablations", "use_gate": False, "gate_logit_init": 0.5, "q0_norm": True}
    original = find_original("mixer_backbone", arguments | {"mixer": mixer})
    translated = original.translate(arguments | {"mixer": mixer, "diagnostics": True})
    # The gate's initial value has no effect without a gate.
    assert translated == (3, 1, {"num_heads": None, "ffn_mlp_ratio": 4.0, "use_gate": False, "q0_norm": True})
    assert original.model_type == "backbone_flarepp_ablations"
    with pytest.raises(ValueError, match=r"kind of the argument mixer is 'flair' .did you mean 'flare'"):
        find_original("mixer_backbone", {"mixer": {"kind": "flair"}})
    with pytest.raises(ValueError, match="kind of the argument mixer is None"):
        find_original("mixer_backbone", {})


def initial(model_type, **options):
    """Return the initial parameters of a model."""
    sizes = {"channel_dim": 48, "num_heads": 4, "num_blocks": 2, "num_latents": 40}
    return jax.device_get(split(build_model(model_type, 2, 1, sizes | options, rngs=ParameterKeys(0)))[1])


def assert_normal(values, std, name):
    standard = np.concatenate([np.ravel(v) for v in values]) / std
    assert abs(standard.mean()) < 5 / np.sqrt(standard.size), name
    assert abs(standard.std() - 1) < 5 / np.sqrt(2 * standard.size), name


def test_initial_distributions():
    params = initial("flarepp")
    maps = {n: v for n, v in params.items() if n.endswith("_proj.kernel") and ".att." in n and "out_proj" not in n}
    assert len(maps) == 6
    assert_normal([v - np.eye(48) for v in maps.values()], 0.02, "maps of the points")
    assert_normal([v for n, v in params.items() if n.endswith("kernel") and n not in maps], 0.02, "kernels")
    assert_normal([v for n, v in params.items() if "latent" in n], 0.02, "latents")
    assert all((v == 0.25).all() for n, v in params.items() if n.endswith("gate_logit"))
    assert all((v == 1).all() for n, v in params.items() if n.endswith("scale"))
    assert not any(v.any() for n, v in params.items() if n.endswith("bias"))
    assert_normal([v for n, v in initial("flarepp", latent_std=1.0).items() if "latent" in n], 1.0, "wide latents")
    assert_normal([initial("luna")["packed_embed"]], 48**-0.5, "packed latents")
    inducing = np.stack([v for n, v in initial("set_transformer").items() if n.endswith("inducing_points")])
    bound = np.sqrt(6 / (40 * 48 + 48))
    assert 0.98 * bound < np.abs(inducing).max() <= bound
    slices = initial("backbone_transolver")
    assert all((v == 0.5).all() for n, v in slices.items() if n.endswith("temperature"))


def test_initial_state_of_the_published_model():
    """The first gather starts as an average over all points, in the first two of the eight blocks."""
    options = {"num_blocks": 2, "num_latents": 64, "channel_dim": 128, "num_heads": 8}
    model = build_model("backbone_flarepp", 2, 1, options, rngs=ParameterKeys(0))
    x = jax.random.uniform(jax.random.key(0), (1, 972, 2))
    graphdef, params = split(model)
    run = jax.jit(apply_fn(graphdef), static_argnames="return_statistics")
    _, statistics = run(params, x, return_statistics=True)
    mean = statistics["mean"]
    for name, value in (("rms_q_dynamic", 0.985), ("synth_n_eff", 956), ("synth_attn_entropy", 6.87)):
        assert abs(float(mean[name]) / value - 1) < 0.05, name
    assert float(mean["gate_value"]) == pytest.approx(1 / (1 + np.exp(-0.25)))


def test_statistics_do_not_change_the_prediction_and_leave_padding_out():
    graphdef, params = build_perturbed("backbone_flarepp_ablations", num_blocks=1)
    run = jax.jit(apply_fn(graphdef), static_argnames="return_statistics")
    mask = jnp.arange(11) < jnp.asarray([[7], [7]])
    padded = jnp.where(mask[..., None], points(), jnp.nan)
    y, statistics = run(params, padded, mask, return_statistics=True)
    expected_y, expected = run(params, points()[:, :7], return_statistics=True)
    assert_close("prediction", y[:, :7], expected_y, 1e-5)
    assert statistics["mean"].keys() == expected["mean"].keys()
    for name, value in expected["mean"].items():
        assert_close(name, statistics["mean"][name], value, 1e-4)


def test_statistics_of_softmax_weights_in_chunks():
    rng = np.random.default_rng(0)
    q, k = 9 * rng.standard_normal((2, 3, 4, 8)), rng.standard_normal((2, 50, 3, 8))
    mask = rng.random((2, 50)) < 0.7
    logits = np.where(mask[:, None, None], np.einsum("bhmd,bnhd->bhmn", q, k), -np.inf)
    weights = naive_backbone.softmax(logits, -1)
    logs = np.log(np.maximum(weights, 1e-12))
    arrays = jnp.asarray(np.float32(q)), jnp.asarray(np.float32(k)), jnp.asarray(mask)
    find = jax.jit(attention_statistics, static_argnames=("scale", "chunk"))
    for chunk in (50, 16, 7):
        entropy, effective = find(*arrays, scale=1.0, chunk=chunk)
        assert_close("entropy", entropy, -(weights * logs).sum(-1), 1e-5)
        assert_close("effective", effective, 1 / np.square(weights).sum(-1), 1e-5)
    assert np.isnan(mean_cosine(jnp.ones((3, 1, 4))))


@pytest.mark.parametrize("model_type", ["flarepp", "backbone_flare", "luna", "set_transformer", "backbone_transolver"])
def test_what_weight_decay_leaves_out(model_type):
    options = {"channel_dim": 48, "num_heads": 4, "num_blocks": 1, "num_latents": 40}
    names = split(nnx.eval_shape(lambda: build_model(model_type, 2, 1, options, rngs=ParameterKeys(0))))[1]
    ending = {
        "flarepp": ("latent_q0", "latent_q_fixed", "gate_logit"),
        "luna": ("packed_embed",),
    }.get(model_type, ())
    expected = {name for name in names if name.rsplit(".", 1)[-1] in ("bias", "scale", *ending)}
    assert {name for name in names if parameter_group(name) == "no_decay"} == expected
    latents = {name for name in names if name.endswith("latent_q")}
    assert {name for name in names if parameter_group(name) == "latent"} == latents
    assert bool(latents) == (model_type == "backbone_flare")


def test_training_in_bfloat16_stays_finite():
    options = {"channel_dim": 16, "num_heads": 2, "num_blocks": 2, "num_latents": 4, "rmsnorm": True}
    model = build_model("backbone_flarepp", 2, 1, options, rngs=ParameterKeys(0), dtype="bfloat16")
    graphdef, params = split(model)
    apply, optimizer = apply_fn(graphdef), optax.adamw(3e-3)
    x = jax.random.uniform(jax.random.key(0), (4, 32, 2))
    target = jnp.sin(5 * x[..., :1]) * x[..., 1:]

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: jnp.mean(jnp.square(apply(p, x) - target)))(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    carry = (params, optimizer.init(params))
    (params, _), losses = jax.jit(lambda carry: jax.lax.scan(step, carry, length=200))(carry)
    _, statistics = jax.jit(apply, static_argnames="return_statistics")(params, x, return_statistics=True)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] / 5
    assert all(np.isfinite(value) for value in statistics["mean"].values())
