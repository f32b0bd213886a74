"""The configs of FLARE on every data set: published settings, smoke variants, how to run them."""

from importlib import import_module

import pytest

from data_pipeline.registry import DATASETS
from experiments.options import check_options
from experiments.pdebench.models import check_model

# Data set, latents, heads, epochs, batch size, weight decay.
PUBLISHED = {
    "darcy": ("darcy", 256, 16, 500, 2, 1e-5),
    "airfoil": ("airfoil_steady", 256, 8, 500, 2, 1e-5),
    "pipe": ("pipe", 128, 8, 500, 2, 1e-5),
    "drivaerml_40k": ("drivaerml_40k", 256, 8, 500, 1, 1e-4),
    "drivaerml_1m": ("drivaerml_1m", 256, 8, 500, 1, 1e-5),
    "lpbf": ("lpbf", 128, 8, 250, 1, 1e-4),
    "shapenet_car": ("shapenet_car", 256, 8, 250, 1, 5e-2),
    "ns": ("navier_stokes", 128, 8, 500, 2, 1e-5),
    "plasticity": ("plasticity", 128, 8, 500, 8, 1e-5),
    "cylinder_flow": ("cylinder_flow", 128, 8, 50, 8, 1e-5),
}


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items())
def test_settings(name, expected):
    config = import_module(f"configs.flare_{name}").get_config()
    assert expected == (
        config.data.name, config.model.num_latents, config.model.num_heads, config.train.epochs,
        config.train.batch_size, config.optimizer.weight_decay,
    )  # fmt: skip
    assert (config.model.type, config.model.num_blocks) == ("flare", 8)
    assert (config.data.n_train, config.data.n_test) == (DATASETS[config.data.name].n_train,
                                                        DATASETS[config.data.name].n_test)  # fmt: skip
    assert config.name == f"flare_{name}"


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("variant", [None, "smoke"])
def test_configs_are_valid_and_say_how_to_run_them(name, variant):
    module = import_module(f"configs.flare_{name}")
    config = module.get_config(variant)
    check_options(config, {})
    check_model(config)
    assert set(DATASETS[config.data.name].options) <= set(config.data)
    assert dict(config.task).keys() == DATASETS[config.data.name].task_options.keys()
    assert f"--config=configs/flare_{name}.py:smoke" in module.__doc__
    if variant:
        assert config.name.endswith("_smoke")
        assert config.model.channel_dim == 32
    with pytest.raises(ValueError, match="smokey"):
        module.get_config("smokey")
