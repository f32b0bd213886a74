"""Widths for so many parameters, and that those of the study of mixers are such."""

import pytest

from benchmarks import widths
from configs import pde
from configs.common import update
from flare_jax.models.registry import MODELS
from studies import mixers


def test_the_width_of_the_published_network_is_found(capsys):
    assert widths.main(["--models=flare", "--parameters=592641"]) == 0
    assert "flare  --config.model.channel_dim=64  592,641" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "sizes", "data", "parameters"),
    [
        ("flarepp", mixers.SIZES, "elasticity", 592_641),
        ("transformer", mixers.SIZES, "elasticity", 592_641),
        ("backbone_transolverpp", mixers.BACKBONES, "darcy", 691_009),
    ],
)
def test_models_of_the_study_have_equal_sizes(name, sizes, data, parameters):
    config = pde.get_config(f"model={name},data={data}")
    update(config.model, sizes[data][name])
    assert abs(widths.parameter_count(config) / parameters - 1) < 0.02


def test_the_study_of_the_backbone_has_all_its_mixers_with_latents():
    kinds = {name for name in MODELS if name.startswith("backbone_")} - {"backbone_mha", "backbone_flarepp_ablations"}
    for data in ("elasticity", "darcy"):
        assert set(mixers.BACKBONES[data]) == kinds
    study = mixers.get_study("backbones_darcy")
    assert {part.labels["model"] for part in study.parts} == kinds
    assert all("data=darcy" in part.config for part in study.parts)
