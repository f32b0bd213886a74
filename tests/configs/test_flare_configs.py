"""The configs of FLARE and FLARE++: published settings, smoke variants, how to run them."""

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


# Data set, blocks, latents, epochs, batch size, weight decay.
PUBLISHED_FLAREPP = {
    "elas": ("elasticity", 8, 64, 500, 2, 1e-5),
    "darcy": ("darcy", 8, 128, 500, 2, 1e-5),
    "airfoil": ("airfoil_steady", 8, 64, 500, 2, 1e-5),
    "pipe": ("pipe", 2, 64, 500, 2, 1e-5),
    "drivaerml_40k": ("drivaerml_40k", 4, 64, 500, 1, 1e-2),
}
NAMES = [f"flare_{name}" for name in PUBLISHED] + [f"flarepp_{name}" for name in PUBLISHED_FLAREPP]


@pytest.mark.parametrize(("name", "expected"), PUBLISHED_FLAREPP.items())
def test_settings_of_flarepp(name, expected):
    config = import_module(f"configs.flarepp_{name}").get_config()
    assert expected == (
        config.data.name, config.model.num_blocks, config.model.num_latents, config.train.epochs,
        config.train.batch_size, config.optimizer.weight_decay,
    )  # fmt: skip
    assert (config.model.type, config.model.channel_dim, config.model.num_heads) == ("flarepp", 128, 8)
    assert (config.model.ffn_mlp_ratio, config.model.num_layers_ffn, config.model.rmsnorm) == (2.0, 0, False)
    assert (config.train.dtype, config.train.matmul_precision, config.train.clip_norm) == ("float32", "highest", 1.0)
    assert (config.schedule.pct_start, config.schedule.div_factor, config.schedule.cycle_momentum) == (0.1, 1e4, True)
    assert not config.optimizer.decay_latents
    assert config.name == f"flarepp_{name}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant", [None, "smoke"])
def test_configs_are_valid_and_say_how_to_run_them(name, variant):
    module = import_module(f"configs.{name}")
    config = module.get_config(variant)
    check_options(config, {})
    config.model.num_blocks = 1  # all are alike
    check_model(config)
    assert set(DATASETS[config.data.name].options) <= set(config.data)
    assert dict(config.task).keys() == DATASETS[config.data.name].all_task_options().keys()
    assert f"--config=configs/{name}.py:smoke" in module.__doc__
    generator = DATASETS[config.data.name].generator
    # A mistyped folder must not become a long run on generated data.
    assert config.data.source == ("files" if not (variant and generator) else _small_source(config.data.name))
    if variant:
        assert config.name.endswith("_smoke")
        assert config.model.channel_dim == 32
    with pytest.raises(ValueError, match="smokey"):
        module.get_config("smokey")


def _small_source(dataset):
    return "generated" if DATASETS[dataset].stand_in else "auto"
