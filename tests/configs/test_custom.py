import pytest

from configs import custom
from data_pipeline.custom.options import OPTIONS
from experiments.errors import UserError
from experiments.options import check_options
from experiments.training.plan import make_plan


@pytest.mark.parametrize("argument", [None, "smoke", "model=transolver", "model=linear,smoke"])
def test_variants(argument):
    config = custom.get_config(argument)
    check_options(config, {})
    assert config.data.name == "custom"
    assert set(OPTIONS) <= set(config.data)
    assert config.name.endswith("_smoke") == ("smoke" in (argument or ""))
    assert config.model.type == ("flare" if "model" not in (argument or "") else argument[6:].split(",")[0])


def test_all_samples_by_default():
    config = custom.get_config()
    assert (config.data.n_train, config.data.n_test, config.data.path) == (0, 0, "")


def test_few_samples_are_seen_more_often():
    config = custom.get_config()
    assert [make_plan(config, samples).steps for samples in (10, 40, 1000)] == [10_000, 10_000, 200_000]
    assert make_plan(custom.get_config("smoke"), 40).steps == 20 * 20


@pytest.mark.parametrize(("name", "stream"), [("data.memory_gib", "always"), ("data.cache", "never")])
def test_options_of_streaming_that_have_no_effect(name, stream):
    config = custom.get_config()
    check_options(config, {name: 1})
    config.data.stream = stream
    with pytest.raises(UserError, match=f"option config.{name} has no effect with data.stream={stream}"):
        check_options(config, {name: 1})


def test_unknown_variants():
    with pytest.raises(ValueError, match="'smoek' is not understood"):
        custom.get_config("smoek")
    with pytest.raises(ValueError, match="model 'flair' is not known"):
        custom.get_config("model=flair")
