"""Values of options that no configuration may have."""

from functools import partial

import pytest
from ml_collections import ConfigDict

from configs import custom, flare_elas, flare_ns, lra
from experiments.errors import UserError
from experiments.options import check_options
from experiments.ranges import check_complete


@pytest.mark.parametrize(
    ("seed", "words"),
    [(2**32, "a seed in train.seeds is 4294967296 but only the integers below 4294967296 are"), (-1, "is -1 but must")],
)
def test_seeds_that_would_be_others(seed, words):
    config = flare_elas.get_config("smoke")
    config.train.seeds = (0, seed)
    with pytest.raises(ValueError, match=words):
        check_options(config, {})
    config.train.seeds = (0, 2**32 - 1)
    check_options(config, {})


# Configurations that have an option which others have not.
HAVING = {
    "data.max_length": partial(lra.get_config, "task=listops,model=flare"),
    "data.num_augment": partial(lra.get_config, "task=sudoku,model=flare"),
    "data.validation": partial(lra.get_config, "task=image,model=flare"),
    "data.level": partial(lra.get_config, "task=pathfinder32,model=flare"),
    "data.buckets": custom.get_config,
    "data.memory_gib": custom.get_config,
    "task.noise": flare_ns.get_config,
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("train.epochs", (-1, 10**11, 1.5, "3", True, None)),
        ("train.steps", (-1, 10**20)),
        ("train.batch_size", (0, 10**22)),
        ("train.accumulation", (0, 2**31)),
        ("train.clip_norm", (-1.0, float("nan"), float("inf"))),
        ("train.ema_decay", (1.0, -0.1, float("nan"))),
        ("train.dtype", ("float16", 3)),
        ("train.matmul_precision", ("tf32",)),
        ("train.seeds", ("a", ("a",), (1.5,), (), (0, 0), (10**19,), (True,))),
        ("optimizer.learning_rate", (0.0, -1e-3, float("inf"))),
        ("optimizer.weight_decay", (-1.0, float("inf"))),
        ("optimizer.beta2", (1.0, "a")),
        ("optimizer.eps", (0.0,)),
        ("optimizer.muon_momentum", (3.0,)),
        ("optimizer.muon_learning_rate", (-3.0,)),
        ("schedule.pct_start", (0.0, 1.5, float("nan"))),
        ("schedule.div_factor", (0.0, -5.0, float("nan"))),
        ("schedule.final_div_factor", (0.0,)),
        ("schedule.base_momentum", (2.0, -0.1)),
        ("schedule.max_momentum", (-1.0, 1.0)),
        ("schedule.min_learning_rate", (-1.0, 1.0)),  # the latter above the peak
        ("eval.every", (-1, 10**20)),
        ("eval.batch_size", (0, 10**20)),
        ("eval.weights", ("both",)),
        ("checkpoint.keep_last", (0, 10**23)),
        ("mesh.data", (10**20,)),
        ("data.n_train", (-1, 10**23)),
        ("data.num_generate", (0, 10**20)),
        ("data.resolution", (-3, 10**8)),
        ("data.generate_seed", (-1, 2**32)),
        ("data.max_length", (0, 10**11)),
        ("data.buckets", (0, 10**12)),
        ("data.memory_gib", (-1.0, float("nan"))),
        ("data.num_augment", (-1, 10**9)),
        ("data.validation", (1.0, -0.1)),
        ("data.level", ("hard", 3)),
        ("schedule.three_phase", (1, "yes")),
        ("optimizer.name", ("adam", 3)),
        ("schedule.name", ("one",)),
        ("schedule.anneal", ("cosine",)),
        ("data.source", ("internet",)),
        ("data.points_per_step", (-1, 1.5)),
        ("task.noise", (-1.0, float("nan"))),
        ("figures", ("maybe",)),
    ],
)
def test_values_out_of_range(name, values):
    for value in values:
        config = HAVING.get(name, flare_elas.get_config)().to_dict()
        section, _, option = name.rpartition(".")
        (config[section] if section else config)[option] = value
        with pytest.raises((ValueError, UserError), match=name) as refusal:
            check_options(ConfigDict(config), {})
        assert "\n" not in str(refusal.value)


def test_momenta_in_the_wrong_order():
    config = flare_elas.get_config("smoke")
    config.schedule.base_momentum = 0.96
    with pytest.raises(UserError, match=r"schedule.base_momentum=0.96 is above schedule.max_momentum=0.95"):
        check_options(config, {})


@pytest.mark.parametrize("name", ["train", "schedule", "eval", "optimizer.eps", "data.name", "model.type", "name"])
def test_configurations_that_lack_something(name):
    config = flare_elas.get_config("smoke").to_dict()
    section, _, option = name.rpartition(".")
    del (config[section] if section else config)[option]
    with pytest.raises(UserError, match=f"some.py lacks .*{name}"):
        check_complete(ConfigDict(config), "some.py")


@pytest.mark.parametrize("name", ["", "..", "../../run", "a/b", 3])
def test_names_that_are_no_folders(name):
    config = flare_elas.get_config("smoke").to_dict() | {"name": name}
    with pytest.raises(UserError, match="must be a name of a folder"):
        check_complete(ConfigDict(config), "some.py")
