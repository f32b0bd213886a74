"""Widths for so many parameters, and that those of the study of mixers are such."""

import pytest

from benchmarks import widths
from configs import pde
from configs.common import update
from studies import mixers


def test_the_width_of_the_published_network_is_found(capsys):
    assert widths.main(["--models=flare", "--parameters=592641"]) == 0
    assert "flare  --config.model.channel_dim=64  592,641" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["flarepp", "transformer"])
def test_models_of_the_study_have_equal_sizes(name):
    config = pde.get_config(f"model={name},data=elasticity")
    update(config.model, mixers.SIZES["elasticity"][name])
    assert abs(widths.parameter_count(config) / 592_641 - 1) < 0.02
