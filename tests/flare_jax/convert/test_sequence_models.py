"""`python -m flare_jax.convert` for models of token sequences: every backend in and out, the original's config file."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from flare_jax.convert import from_torch, to_torch
from flare_jax.convert.__main__ import main
from flare_jax.convert.descriptions import SequenceDescription, abstract_parameters, unsaved_names
from flare_jax.convert.folder import ConvertedModel, load_converted, read_converted, write_converted
from flare_jax.convert.original_config import describe_model
from flare_jax.convert.torch_files import read_snapshot
from flare_jax.models.sequence import BACKENDS, TASKS, TaskKind
from flare_jax.params import apply_fn, split
from tests.flare_jax.models.sequence.cases import CASES, LENGTH, VOCABULARY, perturbed

GOLDENS = Path(__file__).parent.parent.parent / "goldens"
FEATURES = "blocks.0.att.proj_matrix"


def recorded(file):
    """Return the config, the state_dict and the buffers of a recorded model, None for files of other kinds."""
    with np.load(file, allow_pickle=False) as arrays:
        config = json.loads(str(arrays["config"]))
        parts = [
            {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
            for prefix in ("param/", "buffer/")
        ]
    return (config, *parts) if "backend" in config and parts[0] else None


RECORDED = [file for file in sorted(GOLDENS.glob("sequence_*.npz")) if recorded(file)]


def convert(folder, config, state, *more):
    """Write a checkpoint with raw and averaged weights and convert it into `folder`/run; return the exit status."""
    both = {f"model_state/_orig_mod.{name}": value for name, value in state.items()}
    both |= {f"ema_shadow/module.{name}": value + 1 for name, value in state.items()}
    np.savez(folder / "model.npz", **both)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return main([str(folder / "model.npz"), f"--config={folder / 'config.yaml'}", f"--out={folder / 'run'}", *more])


def constructor(config):
    return {"model": config["model_type"], "args": {**config["kwargs"], "backend": config["backend"]}}


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem.removeprefix("sequence_"))
def test_recorded_originals_round_trip(file, tmp_path, capsys):
    config, state, buffers = recorded(file)
    assert convert(tmp_path, constructor(config), state | buffers) == 0, capsys.readouterr().err
    assert "python -m experiments.lra --mode=eval" in capsys.readouterr().out
    for kind, change in (("raw", 0), ("ema", 1)):
        out = tmp_path / f"{kind}.npz"
        assert main([str(tmp_path / "run"), "--to-torch", f"--out={out}", f"--weights={kind}"]) == 0
        again = read_snapshot(out).raw
        assert set(again) == set(state)
        for name, value in state.items():
            np.testing.assert_array_equal(again[name], value + np.float32(change), err_msg=name)


@pytest.mark.parametrize("name", ["flare_p1", "performer_p1", "trm_flare_p2"])
def test_converted_models_predict_what_was_recorded(name, tmp_path):
    file = GOLDENS / f"sequence_{name}.npz"
    config, state, buffers = recorded(file)
    assert convert(tmp_path, constructor(config), state | buffers) == 0
    arrays = np.load(file)
    graphdef, params = split(load_converted(tmp_path / "run"))
    logits = jax.jit(apply_fn(graphdef))(params, jnp.asarray(arrays["input/input_ids"]))
    np.testing.assert_allclose(logits, arrays["output/logits"], atol=5e-5)


def describe_case(case, model_type="sequence"):
    sizes = {"num_blocks": 1, "channel_dim": 12, "num_heads": 2, "max_length": LENGTH, "pad_id": 3}
    options = {**sizes, **CASES[case].options}
    return SequenceDescription(model_type, CASES[case].backend, TaskKind(token_level=True), VOCABULARY, 3, options)


@pytest.mark.parametrize("case", CASES)
def test_every_backend_is_exported(case, tmp_path, capsys):
    """Options that the original does not have are kept in the folder too."""
    model = describe_case(case, "trm" if case == "ema" else "sequence")
    params = perturbed(model.build)[1]
    write_converted(tmp_path / "run", ConvertedModel(model, {"raw": params}))
    assert read_converted(tmp_path / "run").model == model
    assert main([str(tmp_path / "run"), "--to-torch", f"--out={tmp_path / 'a.safetensors'}"]) == 0
    random = unsaved_names(model)
    assert ("without the random features" in capsys.readouterr().out) == bool(random)
    state = read_snapshot(tmp_path / "a.safetensors").raw
    again = from_torch(model.model_type, abstract_parameters(model) | {name: params[name] for name in random}, state)
    for name, value in params.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_cases_cover_every_backend():
    assert {case.backend for case in CASES.values()} == set(BACKENDS)


# Fields of the original's config.yaml that differ from its defaults, and the options of ours that they mean.
_STATE = {
    "kernel": "hadamard", "qk_dim_ratio": 0.5, "norm_q": False, "norm_k": True, "num_layers_kv_proj": -1,
    "num_layers_ffn": 0, "ffn_mlp_ratio": 2.0,
}  # fmt: skip
_DROPS = {"attn_drop": 0.1, "proj_drop": 0.2}
FIELDS = {
    "transformer": ({"mlp_ratio": 2.0, **_DROPS}, {"mlp_ratio": 2.0, **_DROPS}),
    "linformer": (
        {"linformer_k": 4, **_DROPS}, {"k": 4, "mlp_ratio": 4.0, "seq_len": LENGTH, "masked": False, **_DROPS}
    ),
    "ema": (_DROPS, {"mlp_ratio": 4.0, "ema_impl": "reference_cumsum", "masked_ema": False, **_DROPS}),
    "flare": (
        {"num_latents": 5, "attn_scale": "sqrt", "kv_proj_mlp_ratio": 0.5, "ffn_mlp_ratio": 1.5, **_DROPS},
        {
            "num_latents": 5, "attn_scale": "sqrt", "kv_proj_mlp_ratio": 0.5, "ffn_mlp_ratio": 1.5,
            "num_layers_kv_proj": 3, "num_layers_ffn": 3, **_DROPS,
        },
    ),
    "flarepp": (
        {"num_latents": 5, "num_layers_ffn": 1, "ffn_mlp_ratio": 1.5, **_DROPS},
        {
            "num_latents": 5, "num_layers_ffn": 1, "ffn_mlp_ratio": 1.5, "identity_init": False, "masked_pool": True,
            **_DROPS,
        },
    ),
    "linear": (
        {"kernel": "elu", "norm_q": False, **_DROPS},
        {"kernel": "elu", "norm_q": False, "norm_k": True, "mlp_ratio": 4.0, "proj_drop": 0.2},
    ),
    "multilinear": ({**_STATE, "num_states": 3}, {**_STATE, "num_states": 3, "proj_drop": 0.0}),
    "strassen": (_STATE, {**_STATE, "proj_drop": 0.0}),
    "linear_no": (
        {"num_layers_ffn": 1}, {"num_layers_ffn": 1, "ffn_mlp_ratio": 1.0, "proj_drop": 0.0, "masked": False}
    ),
    "triple": ({**_STATE, "use_triton": True}, {**_STATE, "proj_drop": 0.0}),
    "triple1": ({"mlp_ratio": 2.0, "act": "swiglu"}, {"mlp_ratio": 2.0, "proj_drop": 0.0}),
    "quad": (_STATE, {**_STATE, "proj_drop": 0.0}),
    "third_order": (
        {"third_order_method": "strassen"},
        {"third_order_method": "strassen", "mlp_ratio": 4.0, "reference_epsilon": True, "attn_drop": 0.0,
         "proj_drop": 0.0},
    ),
    "performer": (
        {"performer_nb_features": 9, "performer_redraw_interval": 7, "performer_normalize_inputs": False, **_DROPS},
        {"nb_features": 9, "redraw_interval": 7, "normalize_inputs": False, "mlp_ratio": 4.0,
         "estimator": "reference", **_DROPS},
    ),
}  # fmt: skip
SHARED = {"task": "match3", "num_blocks": 2, "channel_dim": 12, "num_heads": 2, "emb_drop": 0.3, "rmsnorm": True}


def head_of(rows, **more):
    """Return the entries of a state_dict from which the sizes are read."""
    return {"token_emb.token_embed.weight": np.zeros((rows, 12)), "cls_proj.2.weight": np.zeros((1, 12)), **more}


@pytest.mark.parametrize("backend", BACKENDS)
def test_fields_of_every_backend(backend):
    """What they mean, and that the state_dict of the model they mean fits it again."""
    fields, expected = FIELDS[backend]
    length = {"pos_emb.pe.weight": np.zeros((LENGTH, 12))}
    content = {"model_type": backend, **SHARED, **fields, "mixed_precision": True}
    model = describe_model(content, head_of(8, **length))
    assert (model.model_type, model.backend, model.task) == ("sequence", backend, TASKS["match3"])
    assert (model.vocab_size, model.num_labels) == (7, 1)
    shared = {
        "num_blocks": 2, "channel_dim": 12, "num_heads": 2, "rmsnorm": True, "act": fields.get("act"),
        "pos_embed": "abs", "emb_drop": 0.3, "cls_drop": 0.0, "max_length": LENGTH, "pad_id": 7,
        "masked_pool": False, "zero_pad_embedding": False,  # what the original computes
    }  # fmt: skip
    assert model.options == shared | expected
    params = perturbed(model.build)[1]
    state = to_torch("sequence", params)
    assert describe_model(content, state) == model
    random = {name: params[name] for name in unsaved_names(model)}
    assert set(from_torch("sequence", abstract_parameters(model) | random, state)) == set(params)


def test_fields_of_the_recursive_model():
    content = {"model_type": "transformer", "task": "sudoku", "trm": True, "trm_N_steps": 5, "num_blocks": 1}
    state = head_of(11, **{"pos_emb.pe.weight": np.zeros((81, 12))})
    model = describe_model(content, state)
    assert (model.model_type, model.vocab_size, model.task) == ("trm", 10, TaskKind(token_level=True))
    # Blanks are padding in the original, whose recursive model is trained without a mask.
    expected = {"num_steps": 5, "num_latent_updates": 6, "num_recursions": 3, "pad_id": 0, "ignore_mask": True}
    assert expected.items() <= model.options.items()
    listops = describe_model({**content, "task": "listops"}, head_of(16))
    assert listops.options["pad_id"] is None
    assert "ignore_mask" not in listops.options


@pytest.mark.parametrize(
    ("fields", "more", "expected"),
    [
        ({"task": "text", "pool": "cls"}, {"pos_emb.pe.weight": np.zeros((51, 12)), "cls_token": np.zeros(12)}, 50),
        ({"task": "retrieval"}, {"pos_emb.pe.weight": np.zeros((50, 12))}, 50),
        ({"task": "text", "pos_embed": "rope"}, {}, 4096),
        ({"task": "listops", "pos_embed": "sin", "model_type": "linformer"}, {}, 2048),
        (
            {"task": "image", "pos_embed": "rope", "model_type": "linformer", "pool": "cls"},
            {"blocks.0.att.E_k": np.zeros((33, 4)), "cls_token": np.zeros(12)},
            32,
        ),
    ],
)
def test_lengths(fields, more, expected):
    """Of learned positions, of linformer's projection, or, where the weights do not tell, of the task."""
    model = describe_model({"model_type": "transformer", **fields}, head_of(30, **more))
    assert model.options["max_length"] == expected
    assert model.vocab_size == 30
    assert model.options.get("seq_len", expected) == expected


def test_two_classifier_layers_and_several_classes():
    state = {"token_emb.token_embed.weight": np.zeros((9, 12)), "cls_proj.2.2.weight": np.zeros((10, 12))}
    model = describe_model({"model_type": "linear", "task": "image"}, state)
    assert (model.num_labels, model.task.mlp_head) == (10, True)


@pytest.mark.parametrize(
    ("content", "state", "words"),
    [
        ({"model_type": "flare", "task": "maze"}, head_of(3), "task 'maze' of the config is not one that"),
        ({"model_type": "flair", "task": "listops"}, head_of(3), "model_type 'flair' .* .did you mean 'flare'"),
        ({"task": "listops"}, head_of(3), "has no field 'model_type'"),
        (
            {"model_type": "flare", "task": "listops"},
            {"in_proj.weight": np.ones(1)},
            "holds no token_emb.token_embed.weight",
        ),
        ({"model_type": "flare", "task": "listops"}, {"token_emb.token_embed.weight": np.ones((3, 4))}, "cls_proj.2.2"),
        ({"model": "ModelWraper", "args": {}}, {}, "did you mean 'ModelWrapper'"),
        ({"model": "ModelWrapper", "args": {"task": "listops"}}, {}, "lack 'vocab_size'"),
        (
            {"model": "TRMWrapper", "args": {"task": "text", "vocab_size": 3, "num_labels": 1, "backend": "flar"}},
            {},
            "backend is 'flar'",
        ),
    ],
)
def test_configs_that_describe_no_model(content, state, words):
    with pytest.raises(ValueError, match=words) as raised:
        describe_model(content, state)
    assert "\n" not in str(raised.value)


def test_random_features_are_drawn_when_asked_for(tmp_path, capsys):
    config, state, buffers = recorded(GOLDENS / "sequence_performer_p1.npz")
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    assert convert(tmp_path / "a", constructor(config), state) == 2
    sentence, *listed = capsys.readouterr().err.splitlines()
    assert "original does not save these random features" in sentence
    assert "--random-features=SEED" in sentence
    assert f"  missing: {FEATURES}" in listed
    assert not (tmp_path / "a" / "run").exists()
    drawn = {}
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert convert(tmp_path / folder, constructor(config), state, f"--random-features={seed}") == 0
        converted = read_converted(tmp_path / folder / "run")
        assert converted.source["random_features"] == f"drawn anew with seed {seed}"
        drawn[folder] = converted.weights["raw"][FEATURES]
        np.testing.assert_array_equal(converted.weights["ema"][FEATURES], drawn[folder])
        np.testing.assert_allclose(np.linalg.norm(drawn[folder], axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(drawn["a"], drawn["b"])
    assert (drawn["a"] != drawn["c"]).any()
    capsys.readouterr()
    (tmp_path / "d").mkdir()
    assert convert(tmp_path / "d", constructor(config), state | buffers, "--random-features=1") == 2
    assert "for the checkpoint has its own; leave it out" in capsys.readouterr().err
    assert convert(tmp_path / "d", constructor(config), state, f"--random-features={2**32 + 1}") == 2
    assert "--random-features is 4294967297 but only the integers below" in capsys.readouterr().err


def test_keys_that_do_not_fit_are_listed_and_nothing_is_written(tmp_path, capsys):
    config, state, _ = recorded(GOLDENS / "sequence_flare_p1.npz")
    del state["blocks.1.norm1.weight"]
    state |= {"blocks.2.norm1.weight": np.zeros(32), "blocks.0.att.latent_q": np.zeros((8, 32))}
    assert convert(tmp_path, constructor(config), state) == 2
    sentence, *listed = capsys.readouterr().err.splitlines()
    assert sentence.endswith("build the model with the options that the checkpoint was trained with")
    assert listed == [
        "  missing: blocks.1.norm1.weight",
        "  unmatched: blocks.2.norm1.weight",
        "  misshapen: blocks.0.att.latent_q (stored (8, 32), model (32, 8))",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "model.npz"]
