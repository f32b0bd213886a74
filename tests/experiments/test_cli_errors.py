"""Each bad input ends in one sentence that names it, a non-zero status, and no traceback."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.errors import UserError, device_missing, memory_missing
from tests.experiments.programs import TINY, pdebench, write_elasticity
from tests.program_server import run_program


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    return folder


def _fails(tmp_path, data_dir, *arguments, status=2, **options):
    """Run and return the error sentence."""
    result = pdebench(*TINY, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}", *arguments, **options)
    return _sentence(result, status)


def _sentence(result, status=2):
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.train.epoch=3", "config.train.epoch does not exist; did you mean config.train.epochs"),
        ("--config.task.points_per_step=3", "does not exist; did you mean config.data.points_per_step?"),
        ("--config.colour=3", "config.colour does not exist"),
        ("--wrkdir=x", "no option --wrkdir (did you mean 'workdir'?); --help lists those there are"),
        ("--zzzz=1", "no option --zzzz; --help lists those there are"),
        ("--config.train.epochs=many", "many"),
        ("--config.schedule.name=constant --config.schedule.pct_start=0.2", "pct_start has no effect"),
        ("--config.optimizer.beta1=0.8", "beta1 has no effect"),
        ("--config.model.num_layers_ffn=-1 --config.model.ffn_mlp_ratio=2", "ffn_mlp_ratio has no effect"),
        ("--config.model.num_heads=3", "num_heads 3 does not divide channel_dim 8"),
        ("--config.model.implementation=magic", "magic"),
        ("--config.optimizer.name=adm", "adm"),
        ("--config.train.dtype=float16", "float16"),
        ("--config.train.steps=5", "exactly one of them"),
        ("--config.mesh.data=64", "64 devices"),
        ("--config.data.name=elastic", "elastic"),
        ("--config.data.n_test=50", "n_test=50"),
        ("--config.data.generate_seed=5", "with data.source=files (data.source=generated generates)"),
        ("--config.data.source=auto --config.data.generate_seed=5", "data.generate_seed=5 has no effect, for"),
        ("--step=3", "--mode=eval"),
        ("--mode=eval", "leave --config out"),
        ("--mode=evaluate --config.data.path=new", "--mode=evaluate is unknown (did you mean 'eval'?); choose one of"),
    ],
)
def test_bad_options(tmp_path, data_dir, argument, words):
    assert words in _fails(tmp_path, data_dir, *argument.split())


def test_a_model_without_pieces_leaves_no_folder(tmp_path):
    config = "--config=configs/pde.py:model=backbone_mha,data=elasticity,smoke"
    result = pdebench(config, "--config.task.points_per_piece=50", f"--workdir={tmp_path / 'run'}")
    assert "task.points_per_piece=50, but points in pieces need a mixer of FLARE or FLARE++, and" in _sentence(result)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode=eval", "--workdir=out/a", "--config.data.path=new"], "python -m experiments.predict --workdir=out/a"),
        (["--mode=analyze", "--config.data.path=new", "--config=configs/custom.py"], "use experiments.predict"),
        (["--mode=eval", "--config.train.epochs=3"], "from the workdir; leave --config.train.epochs out"),
        (["--config.train.epochs=3"], "option config.train.epochs needs --config=FILE"),
    ],
)
def test_options_that_another_program_or_file_takes(arguments, words):
    with pytest.raises(UserError, match=words):
        cli._check_overrides(arguments)


@pytest.mark.parametrize("program", ["pdebench", "lra", "predict"])
def test_help_shows_the_flags(program):
    result = run_program(f"experiments.{program}", ["--help"])
    named = {
        "pdebench": (
            "--config.SECTION.OPTION=VALUE",
            "--mode  <train|time|eval|analyze>: ",
            "--eigenvectors",
            "--workdir",
        )
    }
    named["lra"] = ("--config.SECTION.OPTION=VALUE", "--mode  <train|time|eval>: ", "--workdir", "--data_dir")
    named["predict"] = ("--input", "--output", "--figure", "--workdir")
    assert [flag for flag in named[program] if flag not in result.stdout] == []


def test_debug_shows_the_traceback(tmp_path, data_dir):
    result = pdebench(*TINY, f"--data_dir={data_dir}", "--config.model.num_heads=3", "--debug")
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_missing_data_without_generation(tmp_path):
    sentence = _fails(tmp_path, tmp_path / "nothing")
    assert "Random_UnitCell_XY_10.npy" in sentence
    assert "python -m data_pipeline.generate elasticity" in sentence


def test_a_full_size_run_does_not_generate_by_itself(tmp_path):
    """Not even where --data_dir is mistyped."""
    result = pdebench("--config=configs/flare_elas.py", f"--data_dir={tmp_path / 'dta'}", f"--workdir={tmp_path / 'r'}")
    assert "set data.source=generated" in _sentence(result)
    assert not (tmp_path / "dta").exists()


def test_public_files_where_generated_ones_are_asked_for(tmp_path, data_dir):
    assert "public files" in _fails(tmp_path, data_dir, "--config.data.source=generated")


def test_missing_config_and_unknown_variant():
    assert "configs/none.py" in _sentence(pdebench("--config=configs/none.py"))
    assert "smok" in _sentence(pdebench("--config=configs/flare_elas.py:smok"))
    assert "--config=FILE is missing" in _sentence(pdebench())


def _damaged(data_dir, tmp_path, damage):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    damage(folder / "Geo-FNO" / "elasticity" / "Meshes")
    return folder


def _cut(folder):
    path = folder / "Random_UnitCell_sigma_10.npy"
    path.write_bytes(path.read_bytes()[:3000])


def _wrong_shape(folder):
    np.save(folder / "Random_UnitCell_sigma_10.npy", np.ones((971, 24), np.float32))


def _nan(folder):
    values = np.load(folder / "Random_UnitCell_sigma_10.npy")
    values[5, 7] = np.nan
    np.save(folder / "Random_UnitCell_sigma_10.npy", values)


@pytest.mark.parametrize(
    ("damage", "words"), [(_cut, "it is damaged or incomplete"), (_wrong_shape, "(971, 24)"), (_nan, "(5, 7)")]
)
def test_damaged_data(tmp_path, data_dir, damage, words):
    sentence = _fails(tmp_path, _damaged(data_dir, tmp_path, damage))
    assert words in sentence
    assert "Random_UnitCell_sigma_10.npy" in sentence


def test_workdir_of_another_config_names_the_fields_and_loses_nothing(tmp_path, data_dir):
    run = tmp_path / "run"
    assert pdebench(*TINY, f"--data_dir={data_dir}", f"--workdir={run}").returncode == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    sentence = _fails(tmp_path, data_dir, "--config.train.batch_size=2")
    assert "train.batch_size was 4, now 2" in sentence
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_evaluation_without_a_run_or_a_checkpoint(tmp_path, data_dir):
    assert "no config.json" in _sentence(pdebench("--mode=eval", f"--workdir={tmp_path}"))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    assert "not the configuration of a run" in _sentence(pdebench("--mode=eval", f"--workdir={run}"))
    shutil.rmtree(run)
    _fails(tmp_path, tmp_path / "nothing")  # leaves a workdir with a config and no checkpoints
    content = json.loads((run / "config.json").read_text())
    content["config"]["data"]["dir"] = str(data_dir)
    (run / "config.json").write_text(json.dumps(content))
    assert "no checkpoints" in _sentence(pdebench("--mode=eval", f"--workdir={run}"))


def test_workdir_that_cannot_be_written(tmp_path, data_dir):
    blocked = tmp_path / "run"
    blocked.write_text("a file")
    assert "cannot write to --workdir" in _fails(tmp_path, data_dir)
    # /proc refuses new folders even to root, as a read-only file system does.
    result = pdebench(*TINY, f"--data_dir={data_dir}", "--workdir=/proc/flare_run")
    assert "cannot write to --workdir=/proc/flare_run" in _sentence(result)


def test_disk_that_is_full(tmp_path, data_dir):
    run = tmp_path / "run"
    result = pdebench(*TINY, f"--data_dir={data_dir}", f"--workdir={run}", largest_file_kib=2)
    assert str(run) in _sentence(result)


def test_disk_that_fills_up_while_training(tmp_path, data_dir):
    arguments = (*TINY, "--config.model.channel_dim=64", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}")
    sentence = _sentence(pdebench(*arguments, largest_file_kib=20))
    assert "checkpoint could not be written" in sentence
    assert "File too large" in sentence
    assert "resume" in sentence


@pytest.mark.parametrize("failure", [RuntimeError("Unable to initialize backend 'tpu'"), AssertionError()])
def test_a_device_that_is_not_here_is_named(failure, monkeypatch):
    """Also where it is the cause of another error; JAX's own function is made to fail as it does without the device."""
    code = compile("def backends():\n    raise failure\n", "jax/_src/xla_bridge.py", "exec")
    names = {"failure": failure}
    exec(code, names)

    def read():
        try:
            names["backends"]()
        except Exception as error:
            raise UserError("the checkpoint cannot be read") from error

    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    for call in (names["backends"], read):
        with pytest.raises((UserError, type(failure))) as caught:
            call()
        assert device_missing(caught.value).startswith("JAX_PLATFORMS=tpu names a device that is not here")
    assert device_missing(ValueError("another")) is None


def test_a_device_without_the_memory_is_one_sentence():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.jit(lambda: jnp.ones((10**6, 10**6)) + 1)()
    assert memory_missing(caught.value) == (
        "this is too large for the machine (Out of memory allocating 4000000000000 bytes); ask for less data, or for a "
        "smaller model or batch"
    )
    assert memory_missing(RuntimeError("out of memory")) is None
