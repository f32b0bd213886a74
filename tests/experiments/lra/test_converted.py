"""A checkpoint of the original, made of a sequence run of ours, is evaluated to the same numbers as that run."""

import json

import numpy as np
import pytest
import yaml

from configs import flare_elas
from data_pipeline.dataset import Source
from data_pipeline.generate import generate
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from experiments import converted, workdir
from experiments.errors import UserError
from experiments.lra.options import check_lra_options
from experiments.lra.original import token_warning
from experiments.program import check_program
from flare_jax.convert import to_torch
from flare_jax.convert.__main__ import main
from flare_jax.convert.descriptions import abstract_parameters
from flare_jax.convert.original_config import describe_model
from flare_jax.convert.torch_files import read_snapshot
from tests.experiments.lra.programs import lra_command, run_here, tiny

TASK = "function_composition"
# What the original's config.yaml says of the runs below.
FIELDS = {
    "task": TASK, "model_type": "flare", "channel_dim": 16, "num_blocks": 1, "num_heads": 2, "num_latents": 8,
    "num_layers_kv_proj": 0, "num_layers_ffn": 0, "attn_scale": "sqrt", "pool": "cls", "batch_size": 20, "ema": True,
    "ema_decay": 0.8,
}  # fmt: skip
RECURSION = {"trm": True, "trm_N_steps": 2, "trm_n": 1, "trm_T": 1, "pool": "mean"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(TASK, folder, num=400, seed=42, progress=False)
    return folder


def convert(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


def out_and_in(run, folder, fields):
    """Convert a run of ours to the original's format and back, both sets of weights; return the new folder."""
    both = {}
    for kind, prefix in (("raw", "model_state"), ("ema", "ema_shadow")):
        convert(run, "--to-torch", f"--out={folder / kind}.npz", f"--weights={kind}")
        state = read_snapshot(folder / f"{kind}.npz").raw
        both |= {f"{prefix}/_orig_mod.{name}": value for name, value in state.items()}
    np.savez(folder / "model.npz", **both)
    (folder / "config.yaml").write_text(yaml.safe_dump(fields))
    convert(folder / "model.npz", f"--config={folder / 'config.yaml'}", f"--out={folder / 'workdir'}")
    return folder / "workdir"


def trained(switch, data_dir, folder):
    """Train for a few steps; return the report."""
    changes = {"train__ema_decay": 0.5, "train__steps": 3, "eval__every": 3}
    # The original trains the recursive model without a mask.
    changes |= {"model__pool": "mean", "model__ignore_mask": True} if switch else {}
    return run_here(tiny(f"task={TASK},model=flare{switch}", data_dir, **changes), folder)


def evaluate(folder, data_dir):
    """Evaluate a converted folder in this process, as the command does."""
    converted.adopt(folder)
    config = workdir.load_run_config(folder)
    check_program("lra", config, folder, "eval")
    config.data.dir = str(data_dir)
    return run_here(config, folder, mode="eval")


@pytest.mark.parametrize("switch", ["", ",trm"])
def test_evaluation_gives_the_numbers_of_the_run(switch, data_dir, tmp_path):
    expected = trained(switch, data_dir, tmp_path / "run")
    folder = out_and_in(tmp_path / "run", tmp_path, {**FIELDS, **(RECURSION if switch else {})})
    found = evaluate(folder, data_dir)
    for name in ("loss_raw", "loss_ema", "sequence_accuracy_raw", "sequence_accuracy_ema"):
        np.testing.assert_allclose(found[f"validation/{name}"], expected[f"validation/{name}"], rtol=1e-6, err_msg=name)
    assert found["validation/loss_raw"] != found["validation/loss_ema"]
    assert found["validation/loss"] == found["validation/loss_raw"]
    assert found["parameters"] == expected["parameters"]
    assert json.loads((folder / "config.json").read_text())["converted_from"]["file"] == "model.npz"


def adopted(folder, fields, rows, length, extra=0, labels=3, more=()):
    """Convert a checkpoint of zeros of small width and return its configuration."""
    sizes = {"channel_dim": 8, "num_heads": 2, "num_blocks": 1, "mlp_ratio": 1.0}
    head = {"token_emb.token_embed.weight": np.zeros((rows, 8)), "cls_proj.2.weight": np.zeros((labels, 8))}
    head |= {"cls_token": np.zeros(8)} if extra else {}
    content = {"model_type": "transformer", **sizes, **fields}
    model = describe_model(content, {**head, "pos_emb.pe.weight": np.zeros((length + extra, 8))})
    state = to_torch(model.model_type, {name: np.zeros(v.shape) for name, v in abstract_parameters(model).items()})
    np.savez(folder / "model.npz", **state)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    convert(folder / "model.npz", f"--config={folder / 'config.yaml'}", f"--out={folder / 'workdir'}", *more)
    converted.adopt(folder / "workdir")
    return workdir.load_run_config(folder / "workdir")


def test_the_command_evaluates_and_only_evaluates(data_dir, tmp_path):
    trained_with = {
        "task": TASK, "model_type": "performer", "performer_nb_features": 8, "pool": "cls", "epochs": 0, "steps": 30,
        "batch_size": 20, "learning_rate": 0.002, "optimizer": "adam", "schedule": "ConstantLR", "ema": False,
        "mixed_precision": True, "seed": 6,
    }  # fmt: skip
    adopted(tmp_path, trained_with, 31, 30, extra=1, labels=1, more=("--random-features=1",))
    folder = tmp_path / "workdir"
    result = lra_command("--mode=eval", f"--workdir={folder}", f"--data_dir={data_dir}")
    assert result.returncode == 0, result.stderr
    assert "always the commonest class" in result.stdout
    assert "warning" not in result.stdout
    # All weights are zero, and so are the logits.
    np.testing.assert_allclose(json.loads((folder / "eval.json").read_text())["validation/loss"], np.log(2), rtol=1e-6)
    config = workdir.load_run_config(folder)
    assert (config.train.steps, config.train.batch_size, config.train.seeds) == (30, 20, (6,))
    assert (config.train.ema_decay, config.optimizer.learning_rate, config.optimizer.name) == (0.0, 0.002, "adamw")
    assert (config.schedule.name, config.train.dtype, config.model.nb_features) == ("constant", "float32", 8)
    with pytest.raises(UserError, match="holds a converted model, which is evaluated only"):
        run_here(config, folder)
    config.data.dir = str(data_dir)
    with pytest.raises(UserError, match="--step=3 chooses among checkpoints"):
        run_here(config, folder, mode="eval", step=3)


@pytest.mark.parametrize(
    ("fields", "sizes", "expected"),
    [
        ({"task": "match3"}, (38, 35), {"split": "reference", "source": "auto", "generate_seed": 42}),
        ({"task": "sudoku"}, (11, 81), {"pad_blank": True, "subsample": 1, "source": "files"}),
        ({"task": "listops"}, (20, 2048), {"max_length": 2048, "mask_padding": False, "source": "files"}),
        ({"task": "listops", "pool": "cls"}, (20, 100, 1), {"max_length": 100}),
        ({"task": "listops", "pos_embed": "rope"}, (20, 2048), {"max_length": 2000}),
    ],
)
def test_the_data_are_those_of_the_original(tmp_path, fields, sizes, expected):
    config = adopted(tmp_path, fields, *sizes)
    assert expected == {name: config.data[name] for name in expected}
    check_lra_options(config, {})
    assert not {"max_length", "pad_id", "seq_len"} & set(config.model)


def test_options_of_the_recursive_model(tmp_path):
    config = adopted(tmp_path, {"task": "sudoku", "trm": True}, 11, 81)
    assert (config.model.type, config.model.num_steps, config.model.ignore_mask) == ("trm", 16, True)
    assert (config.train.halt_weight, config.eval.until_halt) == (0.0, False)


def test_weights_that_do_not_fit_the_data(data_dir, tmp_path):
    folder = tmp_path / "workdir"
    config = adopted(tmp_path, {"task": TASK, "batch_size": 20}, 12, 30)
    config.data.dir = str(data_dir)
    with pytest.raises(
        UserError, match=r"raw weights of .* do not fit .* first head.fc.bias .stored \(3,\), model \(1,\)"
    ):
        run_here(config, folder, mode="eval")


def test_warning_about_tokens_of_another_kind():
    ids = np.zeros((2, 4), np.uint8)
    split = TokenSplit(ids, np.zeros(2, np.int8), np.full(2, 4))

    def warning(name, path):
        return token_warning(SequenceDataset(name, split, {"test": split}, 5, 2, 4, source=Source("", path)))

    assert "data/aclImdb is tokenised by this program" in warning("text", "data/aclImdb")
    assert warning("text", "data/LongRangeArena") is None
    assert warning("mta-toy", "data/composition/mta-toy") is None


def test_the_other_program(tmp_path):
    """Its configurations and its runs are refused with the right command, whether trained or converted."""
    adopted(tmp_path, {"task": "listops"}, 20, 50)
    folder = tmp_path / "workdir"
    with pytest.raises(UserError, match=r"holds a run of experiments.lra; use python -m experiments.lra --mode=eval"):
        check_program("pdebench", workdir.load_run_config(folder), folder, "analyze")
    fields = flare_elas.get_config("smoke")
    with pytest.raises(UserError, match=r"'flare_elas_smoke' is for experiments.pdebench; use python -m experiments.p"):
        check_program("lra", fields, tmp_path, "train")
    with pytest.raises(UserError, match=r"holds a run of experiments.lra; use another --workdir"):
        check_program("pdebench", fields, folder, "train")
    check_program("pdebench", fields, tmp_path, "train")
