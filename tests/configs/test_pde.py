"""`configs/pde.py`: the recipes of the specification, every option visible, arguments understood or refused."""

import itertools
from importlib import import_module

import pytest

from configs import pde
from configs.common import model_section, parse_arguments
from configs.pde_recipes import CONVOLUTIONAL, DATASETS, model_options, training_recipe
from data_pipeline.registry import DATASETS as LOADERS
from experiments.cli import flatten
from experiments.options import check_options
from experiments.pdebench.models import check_model
from flare_jax.models.registry import MODELS

GRIDS = [name for name, record in DATASETS.items() if record.grid is not None]
FRAMES = [name for name, record in DATASETS.items() if record.kind != "steady"]


def config_of(model_type, dataset, *switches):
    return pde.get_config(",".join([f"model={model_type}", f"data={dataset}", *switches]))


@pytest.mark.parametrize("model_type", MODELS)
def test_every_model_on_every_data_set(model_type):
    for dataset, switches in itertools.product(DATASETS, ((), ("smoke",))):
        config = config_of(model_type, dataset, *switches)
        check_options(config, {})
        cars = switches and dataset.startswith("drivaerml_")
        assert config.data.name == ("drivaerml_10k" if cars else dataset)
        assert config.model.type == model_type
        assert set(config.model) - {"type"} == set(MODELS[model_type].options())


def test_every_data_set_has_recipes():
    assert set(DATASETS) == set(LOADERS) - {"custom"}


NEW = (*FRAMES, *(f"drivaerml_{size}" for size in ("200k", "300k", "400k", "500k")))


@pytest.mark.parametrize("dataset", NEW)
@pytest.mark.parametrize("model_type", ["flare", "transformer", "transolver"])
def test_models_on_frames_and_large_clouds_can_be_built(model_type, dataset):
    check_model(config_of(model_type, dataset, "smoke"))


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("ns", "navier_stokes"),
        ("plasticity", "plasticity"),
        ("cylinder_flow", "cylinder_flow"),
        ("drivaerml_40k", "drivaerml_500k"),
    ],
)
def test_flare_is_that_of_its_own_configs(name, dataset):
    own, general = import_module(f"configs.flare_{name}").get_config(), config_of("flare", dataset)
    assert general.model == own.model
    if dataset == own.data.name:
        own.name, own.optimizer.beta2 = general.name, 0.999  # left to AdamW there
        assert general == own


def test_smoke_of_a_model_with_places_trains_on_all_points():
    assert config_of("flare", "drivaerml_200k", "smoke").data.points_per_step == 1024
    assert config_of("linformer", "drivaerml_200k", "smoke").data.points_per_step == 0


def test_names_of_runs_differ():
    arguments = [(m, d, s) for m in MODELS for d in DATASETS for s in ((), ("smoke",))]
    arguments += [(m, d, ("conv2d",)) for m in CONVOLUTIONAL for d in GRIDS]
    names = {config_of(m, d, *s).name for m, d, s in arguments}
    assert len(names) == len(arguments)
    assert all(name.replace("_", "").isalnum() for name in names)


# Straight from the tables of the specification: batch, pct_start, div_factor, clip, beta2, weight decay, epochs.
RECIPES = {
    ("flare", "elasticity"): (2, 0.1, 1e4, 1.0, 0.999, 1e-5, 500),
    ("flare", "lpbf"): (1, 0.1, 1e4, 1.0, 0.999, 1e-4, 250),
    ("flare", "drivaerml_40k"): (1, 0.1, 1e4, 1.0, 0.999, 1e-4, 500),
    ("transolver", "elasticity"): (1, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("transolver", "pipe"): (4, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("transolver", "shapenet_car"): (1, 0.3, 25, 0.1, 0.999, 5e-2, 250),
    ("lamo", "elasticity"): (1, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("transolver++", "elasticity"): (8, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("transolver++", "darcy"): (4, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("transolver++", "shapenet_car"): (1, 0.3, 25, 0.1, 0.999, 5e-2, 250),
    ("lno", "airfoil_steady"): (4, 0.2, 1e4, 1000.0, 0.99, 5e-5, 500),
    ("gnot", "elasticity"): (2, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("gnot", "darcy"): (4, 0.3, 25, 0.1, 0.999, 5e-5, 500),
    ("perceiverio", "darcy"): (2, 0.1, 25, 1.0, 0.999, 1e-5, 500),
    ("transformer", "lpbf"): (1, 0.1, 25, 1.0, 0.999, 1e-4, 250),
    ("transolver", "drivaerml_300k"): (1, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("gnot", "drivaerml_500k"): (1, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("transolver", "navier_stokes"): (2, 0.3, 25, 0.1, 0.999, 1e-5, 500),
    ("transolver", "airfoil_dynamic"): (4, 0.3, 25, 0.1, 0.999, 1e-5, 50),
    ("lamo", "cylinder_flow"): (4, 0.3, 25, 0.1, 0.999, 1e-5, 50),
    ("perceiverio", "plasticity"): (8, 0.1, 25, 0.1, 0.999, 1e-5, 500),
    ("flarepp", "drivaerml_40k"): (1, 0.1, 1e4, 1.0, 0.999, 1e-2, 500),
    ("backbone_transolver3", "darcy"): (2, 0.1, 1e4, 1.0, 0.999, 1e-5, 500),
    ("luna", "lpbf"): (1, 0.1, 1e4, 1.0, 0.999, 1e-4, 250),
    ("flare_pp", "drivaerml_40k"): (1, 0.1, 1e4, 1.0, 0.999, 1e-4, 500),
    ("lno", "plasticity"): (8, 0.2, 1e4, 1000.0, 0.99, 5e-5, 500),
}


@pytest.mark.parametrize(("names", "expected"), RECIPES.items(), ids=lambda value: "-".join(map(str, value)))
def test_recipes(names, expected):
    config = config_of(*names)
    found = (
        config.train.batch_size, config.schedule.pct_start, config.schedule.div_factor, config.train.clip_norm,
        config.optimizer.beta2, config.optimizer.weight_decay, config.train.epochs,
    )  # fmt: skip
    assert found == expected
    assert (config.schedule.name, config.schedule.final_div_factor) == ("onecycle", 1e4)
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adamw", 1e-3)
    assert config.eval.batch_size == (
        5 if names[1] in ("elasticity", "pipe", "darcy", "airfoil_steady", *FRAMES) else 1
    )


def test_recipes_with_exceptions():
    assert training_recipe("transformer", "pipe").eps == 1e-6
    assert training_recipe("transformer", "darcy").eps == 1e-8
    million = config_of("flare", "drivaerml_1m")
    assert (million.optimizer.learning_rate, million.schedule.pct_start, million.optimizer.eps) == (5e-4, 0.05, 1e-6)
    assert million.train.dtype == "bfloat16"


def test_sizes():
    assert model_options("flare", "darcy") == {
        "channel_dim": 64, "num_blocks": 8, "num_heads": 16, "num_latents": 256,
    }  # fmt: skip
    for model_type, dataset in itertools.product(("transolver", "lamo"), ("shapenet_car", "navier_stokes")):
        assert {"channel_dim": 256, "num_slices": 32}.items() <= model_options(model_type, dataset).items()
    assert {"channel_dim": 192, "num_layers_mlp": 3}.items() <= model_options("lno", "elasticity").items()
    assert model_options("gnot", "pipe")["grid_shape"] == "data"
    assert "grid_shape" not in model_options("gnot", "elasticity")
    darcy, pipe = (config_of("transolver", name, "conv2d").model for name in ("darcy", "pipe"))
    assert (darcy.grid_shape, darcy.unified_pos) == (pipe.grid_shape, not pipe.unified_pos) == ("data", True)
    assert config_of("transolver", "darcy").model.grid_shape is None
    flow, block = (config_of("transolver", name, "conv2d").model for name in ("navier_stokes", "plasticity"))
    assert (flow.grid_shape, flow.unified_pos) == (block.grid_shape, not block.unified_pos) == ("data", True)
    assert model_options("upt", "cylinder_flow")["space_dim"] == 2


def test_values_of_the_command_line_fit():
    """What `--config.model.x=` gives: text for tuples and for options that the data can decide."""
    config = config_of("transolver", "darcy")
    config.model.grid_shape = "(85, 85)"
    config.model.num_blocks = 2
    upt = config_of("upt", "darcy")
    upt.model.coord_scale = "100"
    assert {"model.grid_shape", "model.num_blocks"} <= set(flatten(config))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (None, r"'model' is missing; write model=<model>,data=<data>\[,conv2d\]\[,smoke\]"),
        ("model=flare", "'data' is missing"),
        ("model=transolvr,data=pipe", r"model 'transolvr' is not known .did you mean 'transolver'"),
        ("model=flare,data=elasticty", r"data 'elasticty' has no recipe .did you mean 'elasticity'"),
        ("model=flare,data=pipe,smok", r"'smok' is not understood .did you mean 'smoke'"),
        ("model=flare,dta=pipe", "'dta=pipe' is not understood"),
        ("model=,data=pipe", "'model=' is not understood"),
        ("model=flare,data=pipe,data=darcy", "'data' is given twice"),
        ("model=flare,data=pipe,smoke,smoke", "'smoke' is given twice"),
        ("model=flare,data=pipe,smoke=yes", "'smoke=yes' is not understood"),
        ("model=flare,data=darcy,conv2d", "conv2d does not go with model=flare,data=darcy"),
        ("model=transolver,data=elasticity,conv2d", "conv2d does not go with model=transolver,data=elasticity"),
        ("model=lamo,data=cylinder_flow,conv2d", "conv2d does not go with model=lamo,data=cylinder_flow"),
    ],
)
def test_arguments_that_are_refused(argument, message):
    with pytest.raises(ValueError, match=message) as raised:
        pde.get_config(argument)
    assert "\n" not in str(raised.value)


def test_arguments_in_any_order():
    assert parse_arguments("b,y=2,x=1", names=("x", "y"), switches=("a", "b")) == {
        "x": "1", "y": "2", "a": False, "b": True,
    }  # fmt: skip


def test_sections_have_only_options_of_the_model():
    with pytest.raises(ValueError, match="model 'flare' has no option 'num_slices'; choose one of type, channel_dim"):
        model_section("flare", {"num_slices": 3})


@pytest.mark.parametrize(
    ("model_type", "changes", "option", "reason"),
    [
        ("unloopy", {}, "num_layers_gating_proj", "with model.gating=False"),
        ("transolver", {}, "ref", "with model.unified_pos=False"),
        ("flare_ablations", {"num_layers_ffn": -1}, "ffn_mlp_ratio", "with model.num_layers_ffn=-1"),
        ("loopy", {"num_layers_kv_proj": -1}, "kv_proj_mlp_ratio", "with model.num_layers_kv_proj=-1"),
    ],
)
def test_options_without_effect(model_type, changes, option, reason):
    config = config_of(model_type, "elasticity")
    config.model.update(changes)
    with pytest.raises(Exception, match=f"option config.model.{option} has no effect {reason}"):
        check_options(config, {f"model.{option}": 1})


def test_options_with_effect():
    check_options(config_of("transolver", "darcy", "conv2d"), {"model.ref": 4})
    check_options(config_of("transformer", "darcy"), {"model.mlp_ratio": 2.0})
    check_options(config_of("flare", "darcy"), {"model.ffn_mlp_ratio": 2.0})
