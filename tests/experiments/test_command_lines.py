"""Command lines that no program can follow: one sentence with what is wrong, status 2, and nothing computed."""

import pytest

from tests.experiments.programs import TINY, write_elasticity
from tests.program_server import run_program


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_elasticity(folder)
    return folder


def refusal(module, *arguments):
    """Run a program that refuses; return its sentence."""
    result = run_program(module, arguments, timeout=100)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def get_config():\n    return 1 / 0\n", "ZeroDivisionError: division by zero, line 2"),
        ("import nowhere\n", "No module named 'nowhere', line 1"),
        ("def get_config(:\n", "SyntaxError: invalid syntax, line 1"),
        ("\0", "cannot be used"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3, line 2"),
        ("get_config = 3\n", "defines no function get_config"),
        ("def get_config():\n    pass\n", "returns NoneType and no ConfigDict"),
        ("def get_config():\n    return {'name': 'a'}\n", "returns dict and no ConfigDict"),
        (
            "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'name': 'a'})\n",
            "lacks model.type, data.name, data.dir and more; begin with configs.common.pde_config",
        ),
    ],
)
def test_configs_that_give_no_configuration(tmp_path, content, words):
    path = tmp_path / "config.py"
    path.write_text(content)
    assert words in refusal("experiments.pdebench", f"--config={path}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--config.train.epochs=100000000000", "train.epochs is 100000000000 but must be an integer of at least 0"),
        ("--config.train.epochs=1e11", "config.train.epochs=1e11 is not understood; it takes an integer"),
        ("--config.train.epochs=2147483647", "2147483647 makes 8589934588 optimizer steps, more than 2147483647"),
        ("--config.train.seeds=12345678901234567890", "a seed in train.seeds is 12345678901234567890"),
        ("--config.train.seeds=a", "train.seeds is ('a',) but must be a tuple of integers"),
        ("--config.schedule.div_factor=0", "schedule.div_factor is 0.0 but must be a number of at least 1"),
        ("--config.schedule.div_factor=-5", "schedule.div_factor is -5.0"),
        ("--config.schedule.base_momentum=2", "schedule.base_momentum is 2.0"),
        ("--config.schedule.min_learning_rate=-1", "schedule.min_learning_rate is -1.0"),
        ("--config.schedule.min_learning_rate=1", "is above the peak"),
        ("--config.optimizer.eps=small", "config.optimizer.eps=small is not understood; it takes a number"),
        ("--config.figures=maybe", "config.figures=maybe is not understood; it takes true or false"),
        ("--config.model.num_latents=1000000000000", "num_latents"),
        ("--config.model.channel_dim=1000000", "channel_dim"),
        ("--config.model.num_blocks=100000", "num_blocks"),
        ("--config.model.num_layers_ffn=1000000", "num_layers_ffn"),
        ("--config.model.k_proj_mlp_ratio=1e30", "k_proj_mlp_ratio"),
        ("--num_processes=2", "--num_processes=2 goes with --coordinator_address and --process_id"),
        ("--coordinator_address=a:1 --num_processes=2 --process_id=2", "--process_id=2 must lie in 0 to 1"),
        ("--coordinator_address=a --num_processes=2 --process_id=1", "must be host:port"),
        ("--workdir=", "--workdir= is empty"),
        ("--track=wandb", "--track has 'wandb'"),
        ("--track=tensorboard --mode=time", "--track=tensorboard follows a training"),
        ("--data_dir=", "--data_dir= is empty"),
        (
            "--config=configs/flare_darcy.py:smoke --config.model.num_heads=3",
            "num_heads 3 does not divide channel_dim 8",
        ),
        ("--config=", "--config= is empty"),
    ],
)
def test_values_on_the_command_line(tmp_path, data_dir, arguments, words):
    given = arguments.split()
    assert words in refusal(
        "experiments.pdebench", *TINY, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}", *given
    )


_ELASTICITY = "--config=configs/flare_elas.py:smoke"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data_pipeline.inspect custom", "data.path='' names no data"),
        ("data_pipeline.inspect elasticity --n_train=1e3", "--n_train: 1e3 must be an integer from 0"),
        (
            "data_pipeline.custom.example --out=/proc/x --num=1000000000000000000000",
            "must be an integer from 2 to 1000000",
        ),
        ("data_pipeline.custom.example", "required: --out"),
        ("benchmarks.train_step", "--config=FILE is missing"),
        (f"benchmarks.train_step {_ELASTICITY} --steps=a", "--steps=a"),
        (f"benchmarks.train_step {_ELASTICITY} --repeats=0", "--repeats=0"),
        (f"benchmarks.train_step {_ELASTICITY} --config.train.batch_size=0", "train.batch_size is 0"),
        (f"benchmarks.train_step {_ELASTICITY} --output=/proc/x/y.json", "'/proc/x/y.json' cannot be written"),
        ("benchmarks.devices --scalings=sideways", "--scalings has 'sideways'"),
        (f"benchmarks.devices {_ELASTICITY} --models=flare", "--models=flare does not go with --config"),
        ("benchmarks.streaming", "--config=FILE is missing"),
        ("benchmarks.sequence_throughput --lengths=many", "--lengths=many"),
        ("benchmarks.sequence_throughput --models=flair", "a model of --models is 'flair' (did you mean 'flare'?)"),
        ("benchmarks.sequence_throughput --steps=0", "--steps=0"),
        ("benchmarks.widths --models=flair --parameters=1000", "model 'flair' is not known (did you mean 'flare'?)"),
        ("benchmarks.widths --models=flare --parameters=many", "--parameters: many must be an integer from 1"),
        ("benchmarks.zoo --epochs=-1", "--epochs: -1 must be an integer from 0"),
        ("benchmarks.zoo --steps=many", "--steps: many must be an integer from 1"),
        ("benchmarks.zoo --output=pyproject.toml", "pyproject.toml cannot be read as JSON"),
        ("benchmarks.zoo --output=/proc/x.json", "'/proc/x.json' cannot be written"),
        ("benchmarks.kernels --seconds=long", "--seconds: long must be a number of seconds"),
        ("benchmarks.search --group=0", "--group: 0 must be an integer from 1"),
        ("benchmarks.scaling --points=many", "points has 'many'"),
    ],
)
def test_lines_of_the_other_programs(line, words):
    module, *arguments = line.split()
    assert words in refusal(module, *arguments)
