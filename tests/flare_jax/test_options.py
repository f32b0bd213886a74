import dataclasses
import itertools
import re
from dataclasses import dataclass

import numpy as np
import pytest

from flare_jax.options import (
    MAX_LATENTS,
    Config,
    Option,
    option,
    options_of,
    unused_because,
    without_unused,
)


@dataclass(frozen=True, kw_only=True)
class GateConfig(Config):
    num_latents: int = option(help="latents of each head", minimum=1, maximum=MAX_LATENTS)
    gating: bool = option(False, help="gate the merged heads")
    num_layers_gate: int = option(3, help="inner layers of the gate", minimum=-1, maximum=9, needs="gating")
    gate_ratio: float = option(1.0, help="width of the gate", above=0, unless=("num_layers_gate", -1))


@dataclass(frozen=True, kw_only=True)
class ModelConfig(GateConfig):
    num_latents: int = option(8, help="latents of each head", minimum=1, maximum=MAX_LATENTS)
    num_heads: int | None = option(None, help="heads", minimum=1, maximum=64)
    act: str | None = option(None, help="activation", choices=("gelu", "silu", None))
    attn_scale: str | float = option("one", help="factor of the logits", choices=("one", "sqrt"), above=0)
    grid_shape: tuple[int, ...] | None = option(None, help="axes of the grid", minimum=1)
    drop: float = option(0.0, help="rate of dropout", minimum=0, below=1)
    pos_embed: str = option("sin", help="positions", choices=("sin", "rope"))
    rope_mode: str = option("true", help="mode of rope", choices=("true", "old"), needs=("pos_embed", "rope"))
    scaled: bool = option(True, help="the rotation is scaled", needs=("rope_mode", ("true",)))
    scale: float = option(1.0, help="by so much", needs="scaled")

    def check_together(self) -> None:
        if self.num_heads is not None and self.num_latents < self.num_heads:
            raise ValueError("fewer latents than heads")


def test_a_configuration_has_its_values_and_defaults_and_is_frozen_and_hashable():
    config = ModelConfig(num_heads=4, attn_scale=2, grid_shape=[3, np.int64(5)], drop=np.float64(0.5))
    assert (config.num_latents, config.num_heads, config.attn_scale, config.grid_shape) == (8, 4, 2.0, (3, 5))
    assert [type(value) for value in (config.attn_scale, config.grid_shape[1], config.drop)] == [float, int, float]
    assert config.replace(num_latents=9) == ModelConfig(
        num_latents=9, num_heads=4, attn_scale=2.0, grid_shape=(3, 5), drop=0.5
    )
    assert hash(config) == hash(config.replace())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_heads = 2


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"num_latents": 0},
            "num_latents is 0 but must be an integer of at least 1 and at most 131072; set num_latents",
        ),
        (
            {"num_latents": 10**12},
            "num_latents is 1000000000000 but must be an integer of at least 1 and at most 131072",
        ),
        ({"num_latents": True}, "num_latents is True but must be an integer"),
        ({"num_latents": 8.0}, "num_latents is 8.0 but must be an integer"),
        ({"num_heads": "4"}, "num_heads is '4' but must be an integer of at least 1 and at most 64 or None"),
        ({"gating": 1}, "gating is 1 but must be True or False"),
        ({"gate_ratio": -1}, "gate_ratio is -1 but must be a positive number; set gate_ratio accordingly"),
        ({"gate_ratio": float("nan")}, "gate_ratio is nan but must be a positive number"),
        ({"gate_ratio": float("inf")}, "gate_ratio is inf but must be a positive number"),
        ({"gate_ratio": 10**400}, "gate_ratio is 1000"),
        ({"act": "gelo"}, "act is 'gelo' (did you mean 'gelu'?) but must be one of 'gelu', 'silu' or None; set act"),
        ({"attn_scale": "sqr"}, "(did you mean 'sqrt'?) but must be one of 'one', 'sqrt' or a positive number"),
        ({"attn_scale": 0}, "attn_scale is 0 but must be one of 'one', 'sqrt' or a positive number"),
        ({"grid_shape": (3, 0)}, "grid_shape is (3, 0) but must be a tuple of integers of at least 1 or None"),
        ({"grid_shape": 3}, "grid_shape is 3 but must be a tuple of integers of at least 1 or None"),
        ({"drop": 1}, "drop is 1 but must be a number of at least 0 and below 1; set drop accordingly"),
        ({"num_layers_gate": 2}, "num_layers_gate is 2 but has no effect with gating=False; leave num_layers_gate out"),
        ({"gating": True, "num_layers_gate": -1, "gate_ratio": 2.0}, "has no effect with num_layers_gate=-1"),
        ({"rope_mode": "old"}, "rope_mode is 'old' but has no effect with pos_embed=sin"),
        # Of what has no effect itself.
        ({"scale": 2.0}, "scale is 2.0 but has no effect with pos_embed=sin"),
        ({"pos_embed": "rope", "rope_mode": "old", "scale": 2.0}, "scale is 2.0 but has no effect with rope_mode=old"),
        ({"num_heads": 16}, "fewer latents than heads"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_one_sentence(values, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ModelConfig(**values)


def test_values_by_name_are_checked_with_the_name_of_their_owner():
    config = ModelConfig.from_mapping({"num_latents": 4, "gating": True, "num_layers_gate": 1}, owner="model 'm'")
    assert config == ModelConfig(num_latents=4, gating=True, num_layers_gate=1)
    for values, sentence in (
        (
            {"num_latent": 4},
            "model 'm' has no option 'num_latent' (did you mean 'num_latents'?); its options are num_l",
        ),
        ({"num_latents": None}, "num_latents is None but must be an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            ModelConfig.from_mapping(values, owner="model 'm'")
    with pytest.raises(ValueError, match="model 'm' needs the option 'num_latents', which has no default; set it"):
        GateConfig.from_mapping({}, owner="model 'm'")


def test_options_are_inherited_and_overridden():
    inherited, own = options_of(GateConfig), options_of(ModelConfig)
    assert list(inherited) == list(itertools.islice(own, 4)), "the order is that of the classes"
    assert (inherited["num_latents"].required, own["num_latents"].required) == (True, False)
    assert own["num_latents"].default == 8
    assert own["gating"] == inherited["gating"]
    assert isinstance(own["act"], Option)
    assert own["act"].help == "activation"


def test_options_without_effect_are_named_and_left_out():
    assert unused_because(options_of(ModelConfig)["gate_ratio"], ModelConfig()) is None
    assert unused_because(options_of(ModelConfig)["num_layers_gate"], ModelConfig(), "model.") == "model.gating=False"
    rope = ModelConfig(pos_embed="rope")
    assert unused_because(options_of(ModelConfig)["rope_mode"], rope) is None
    values = {"num_layers_gate": 7, "num_latents": 2, "rope_mode": "old", "drop": 0.5, "unknown": 1}
    assert without_unused(ModelConfig, values) == {"num_latents": 2, "drop": 0.5, "unknown": 1}
    assert without_unused(ModelConfig, values | {"gating": True, "pos_embed": "rope"}) == values | {
        "gating": True,
        "pos_embed": "rope",
    }


def test_a_condition_on_an_option_that_is_not_there_is_a_mistake_of_the_class():
    @dataclass(frozen=True, kw_only=True)
    class Wrong(Config):
        ratio: float = option(1.0, help="ratio", needs="gate")

    with pytest.raises(TypeError, match=r"Wrong\.ratio depends on 'gate', which is no option of it"):
        Wrong()
