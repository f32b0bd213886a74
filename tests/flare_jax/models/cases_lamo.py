"""Small LaMO models: an irregular mesh with all extra inputs, and a structured grid."""

from tests.flare_jax.models.case import Case

_AROUND = {"scale": 1.0, "temperature": 1.0, "skip": 1.0}
_LAMO = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "num_slices": 5,
    "act": "silu",
    "mlp_ratio": 1.5,
    "fun_dim": 2,
    "state_dim": 3,
    "dropout": 0.3,
    "orthogonal_slice_init": True,
}

CASES = {
    "lamo": Case(
        "lamo",
        _LAMO
        | {
            "time_input": True,
            "conv_width": 5,
            "expand": 2,
            "state_space_head_dim": 6,
            "num_groups": 4,
            "remat": True,
        },
        point_inputs={"fx": 2},
        sample_inputs={"time": ()},
        no_gradient=("placeholder",),
        around=_AROUND,
    ),
    "lamo_grid": Case(
        "lamo",
        _LAMO
        | {
            "grid_shape": (3, 4),
            "unified_pos": True,
            "unified_pos_drop_input": True,
            "ref": 2,
            "state_space_head_dim": 3,
            "num_groups": 2,
        },
        num_points=12,
        point_inputs={"fx": 2},
        padding="refused",
        permutes=False,
        # Positions of the grid take the place of x.
        no_gradient=("x", "placeholder"),
        around=_AROUND,
    ),
}
