"""Weights to begin with: which layers are new, what is refused, what stays fixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from configs import lra
from experiments.errors import UserError
from experiments.lra import models as sequence_models
from experiments.pdebench import models
from experiments.training.initial import frozen_names, started
from experiments.training.optimizers import build_packing
from experiments.training.packing import FROZEN
from experiments.training.state import create_state
from experiments.training.step import _make_update
from flare_jax import params as model_params
from flare_jax.convert.descriptions import ModelDescription
from flare_jax.convert.folder import ConvertedModel, write_converted
from flare_jax.convert.safetensors import write_safetensors
from flare_jax.convert.starting import StartingWeights, read_starting_weights
from flare_jax.models.registry import MODELS
from flare_jax.models.sequence import TaskKind

OPTIONS = {
    "channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4, "num_layers_k_proj": 0,
    "num_layers_v_proj": 0, "num_layers_ffn": 0, "num_layers_in_out_proj": 0,
}  # fmt: skip


def config_of(**changes):
    train = {"dtype": "float32", "init_strict": False, **changes}
    return ConfigDict({"model": {"type": "flare", **OPTIONS}, "train": train})


def parameters(c_in, c_out, seed):
    return model_params.split(models.build(config_of(), OPTIONS, c_in, c_out, seed))[1]


def start_with(params, config, start, c_in, c_out):
    lines = []
    result = started(params, start, config, lambda: models.width_names(config, OPTIONS, c_in, c_out), lines.append)
    return result, lines


GIVEN = StartingWeights({name: np.asarray(v) for name, v in parameters(3, 1, 7).items()}, "out/a (ema weights)")


def test_weights_of_the_same_model_are_all_taken():
    result, lines = start_with(parameters(3, 1, 0), config_of(init_strict=True), GIVEN, 3, 1)
    for name, value in GIVEN.params.items():
        np.testing.assert_array_equal(result[name], value)
    assert lines == [f"starting from out/a (ema weights): {len(result)} of {len(result)} parameter arrays"]


def test_layers_of_another_width_are_new():
    fresh = parameters(4, 2, 0)
    result, lines = start_with(fresh, config_of(), GIVEN, 4, 2)
    for name in fresh:
        changed = name.startswith(("in_proj", "out_proj")) and fresh[name].shape != GIVEN.params[name].shape
        expected = fresh if changed else GIVEN.params
        np.testing.assert_array_equal(result[name], expected[name])
    assert len(lines) == 1
    assert "new layers in_proj" in lines[0]
    assert "was [3, 8], is [4, 8]" in lines[0]
    with pytest.raises(UserError, match=r"train.init_strict=true, but in_proj.* was \[3, 8\], is \[4, 8\]"):
        start_with(fresh, config_of(init_strict=True), GIVEN, 4, 2)


def test_weights_of_other_models_are_refused():
    config = config_of()
    config.model.channel_dim = 16
    wide = model_params.split(models.build(config, {**OPTIONS, "channel_dim": 16}, 3, 1, 0))[1]
    known = StartingWeights(GIVEN.params, "out/a", {"type": "flare", **OPTIONS})
    with pytest.raises(UserError, match=r"parameters of out/a do not fit this model, .* --config.model.channel_dim=8$"):
        start_with(wide, config, known, 3, 1)
    with pytest.raises(UserError, match=r"the parameters of b.safetensors, such as module.weight, have not the names"):
        start_with(wide, config, StartingWeights({"module.weight": np.ones(3)}, "b.safetensors"), 3, 1)
    # Those of PyTorch, whose biases have our names.
    of_torch = {name.replace(".kernel", ".weight"): value for name, value in GIVEN.params.items()}
    with pytest.raises(UserError, match=r"convert a checkpoint of the PyTorch original by python -m flare_jax.convert"):
        start_with(parameters(3, 1, 0), config_of(), StartingWeights(of_torch, "b.safetensors"), 3, 1)


@pytest.mark.parametrize("model_type", ["transolver", "gnot", "perceiverio", "upt"])
def test_parameters_by_width_are_few(model_type):
    required = {name: 8 for name, option in MODELS[model_type].options().items() if option.required}
    config = ConfigDict({"model": {"type": model_type}, "train": {"dtype": "float32"}})
    names = models.width_names(config, required, 3, 1)
    total = model_params.split(nnx.eval_shape(lambda: models.build(config, required, 3, 1, 0)))[1]
    assert 2 <= len(names) <= len(total) / 3


def test_parameters_by_tokens_and_labels():
    config = lra.get_config("task=listops,model=flare,smoke")
    facts = sequence_models.TaskFacts(TaskKind(False, 1, False), 18, 10, 16, None)
    names = sequence_models.width_names(config, facts)
    assert len(names) >= 2
    assert not [name for name in names if "blocks" in name]


def test_frozen_names():
    names = {"blocks.0.att.q", "blocks.1.att.q", "in_proj.kernel", "out_proj.kernel"}
    assert frozen_names("", names) == frozenset()
    assert frozen_names("blocks.0.*, in_*", names) == {"blocks.0.att.q", "in_proj.kernel"}
    with pytest.raises(
        UserError, match=r"train.freeze=block_\* fits no parameter; their names begin with blocks, in_proj"
    ):
        frozen_names("block_*", names)
    with pytest.raises(UserError, match=r"train.freeze=, fits no parameter"):
        frozen_names(",", names)
    with pytest.raises(UserError, match="fits all 4 parameters"):
        frozen_names("*", names)


@pytest.mark.parametrize("name", ["adamw", "lion", "muon"])
def test_frozen_parameters_do_not_change(name):
    from experiments.defaults import training_defaults
    from experiments.training.optimizers import build_optimizer, scheduled_options

    params = {"block.kernel": jnp.ones((3, 2)) / 3, "block.other": jnp.ones((2, 2)) / 7, "bias": jnp.ones(2) / 3}
    packing = build_packing(name, params, ["block.kernel", "block.other"], {"block.kernel"})
    optimizer_config = training_defaults("a").optimizer
    optimizer_config.unlock()
    optimizer_config.name, optimizer_config.weight_decay = name, 0.1
    optimizer = build_optimizer(
        optimizer_config, 1.0, scheduled_options(optimizer_config, lambda step: 1e-2, None), packing
    )
    state = create_state(params, packing, optimizer, 0, ema=True)
    before = {name: np.asarray(value) for name, value in params.items()}
    update = jax.jit(_make_update(optimizer, packing, 0.9))
    for _ in range(3):
        state, metrics = update(state, jnp.float32(1), jax.tree.map(jnp.ones_like, params))
    assert metrics["grad_norm"] == pytest.approx(np.sqrt(6))
    for kind in (state.params, state.ema):
        after = packing.unpack(kind)
        np.testing.assert_array_equal(after["block.kernel"], before["block.kernel"])
        assert (np.asarray(after["block.other"]) != before["block.other"]).all()
    assert FROZEN in packing.groups


def test_weights_of_a_converted_checkpoint(tmp_path):
    model = ModelDescription("flare", 3, 1, OPTIONS)
    average = {name: 2 * value for name, value in GIVEN.params.items()}
    write_converted(tmp_path / "converted", ConvertedModel(model, {"raw": GIVEN.params, "ema": average}))
    for weights, factor in ((None, 1), ("ema", 2)):
        start = read_starting_weights(tmp_path / "converted", weights)
        result, _ = start_with(parameters(3, 1, 0), config_of(), start, 3, 1)
        for name, value in GIVEN.params.items():
            np.testing.assert_array_equal(result[name], factor * value)


def test_weights_of_files(tmp_path):
    arrays = {"a.kernel": np.ones((2, 2), np.float32)}
    write_safetensors(tmp_path / "plain.safetensors", arrays)
    both = {f"{kind}/a.kernel": factor * arrays["a.kernel"] for factor, kind in ((1, "raw"), (2, "ema"))}
    write_safetensors(tmp_path / "both.safetensors", both)
    assert read_starting_weights(tmp_path / "plain.safetensors").params["a.kernel"][0, 0] == 1
    assert read_starting_weights(tmp_path / "both.safetensors").params["a.kernel"][0, 0] == 1
    assert read_starting_weights(tmp_path / "both.safetensors", "ema").params["a.kernel"][0, 0] == 2
    (tmp_path / "a.pt").touch()
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    for name, weights, message in (
        ("plain.safetensors", "ema", "train.init_weights=ema, but .* holds one set of weights"),
        ("nowhere", None, "train.init_from=.*nowhere does not exist; name the folder of a run"),
        ("a.pt", None, "is no safetensors file; name one"),
        ("cut.safetensors", None, "is cut off or not a safetensors file"),
        ("", None, "so there is no run in it"),
    ):
        with pytest.raises(ValueError, match=message):
            read_starting_weights(tmp_path / name, weights)
