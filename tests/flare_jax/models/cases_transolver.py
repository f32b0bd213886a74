"""Cases of Transolver, Transolver++, TS1 and TS3; no option keeps its default in all cases of a model type."""

from tests.flare_jax.models.case import Case

_SIZES = {"channel_dim": 12, "num_blocks": 2, "num_heads": 2, "num_slices": 5}
_TRANSOLVER = _SIZES | {"act": "tanh", "mlp_ratio": 1.5}
_ON_GRID = {"padding": "refused", "permutes": False, "num_points": 12}
_TEMPERATURE = {"temperature": 0.7, "temperature_bias": 0.7}
_GAIN = {"token_gain": 1.0}

CASES = {
    "transolver": Case("transolver", _SIZES, around=_TEMPERATURE),
    "transolver_conditioned": Case(
        "transolver",
        _TRANSOLVER | {"fun_dim": 2, "time_input": True, "dropout": 0.2, "orthogonal_slice_init": True, "remat": True},
        point_inputs={"fx": 2},
        sample_inputs={"time": ()},
        no_gradient=("placeholder",),
        around=_TEMPERATURE,
    ),
    "transolver_grid": Case(
        "transolver",
        _TRANSOLVER | {"grid_shape": (3, 4), "unified_pos": True, "ref": 3},
        no_gradient=("placeholder",),
        around=_TEMPERATURE,
        **_ON_GRID,
    ),
    "transolver_grid_as_the_original": Case(
        "transolver",
        _TRANSOLVER
        | {"grid_shape": (2, 3, 2), "unified_pos": True, "unified_pos_drop_input": True, "ref": 2, "fun_dim": 3},
        point_inputs={"fx": 3},
        no_gradient=("placeholder", "x"),
        around=_TEMPERATURE,
        **_ON_GRID,
    ),
    "transolver++": Case(
        "transolver++",
        _TRANSOLVER | {"fun_dim": 2, "dropout": 0.2, "orthogonal_slice_init": True, "remat": True, "eval_noise": False},
        point_inputs={"fx": 2},
        around=_TEMPERATURE,
    ),
    "transolver++_noise": Case("transolver++", _SIZES, padding="trailing", permutes=False, around=_TEMPERATURE),
    "ts1_uncond": Case("ts1_uncond", _SIZES | {"act": "swiglu", "mlp_ratio": 1.5, "qk_norm": True, "dropout": 0.2}),
    "ts3_uncond": Case("ts3_uncond", _SIZES | {"act": "geglu", "mlp_ratio": 1.5, "qk_norm": True}, around=_GAIN),
    "ts3_uncond_grid": Case("ts3_uncond", _SIZES | {"grid_shape": (4, 3)}, around=_GAIN, **_ON_GRID),
}
