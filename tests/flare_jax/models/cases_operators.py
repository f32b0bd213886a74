"""Cases of loopy, unloopy, LNO, GNOT, PerceiverIO and UPT."""

from tests.flare_jax.models.case import Case
from tests.flare_jax.models.cases_flare import CASES as FLARE_CASES

_LOOPED = {
    name: value
    for name, value in FLARE_CASES["flare"].options.items()
    if not any(part in name for part in ("k_proj", "v_proj")) and name != "qk_norm"
} | {"num_layers_kv_proj": 0, "kv_proj_mlp_ratio": 0.5}
_GATED = {"gating": True, "num_layers_gating_proj": 1, "gating_proj_mlp_ratio": 1.5}
_GNOT = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 3,
    "num_experts": 2,
    "mlp_ratio": 1.5,
    "act": "tanh",
    "dropout": 0.3,
}

# The other values of each option are compared with plain numpy in test_operators.
CASES = {
    "loopy": Case("loopy", _LOOPED | {"num_passes": 2}),
    "unloopy": Case("unloopy", _LOOPED | _GATED | {"shared_ffn": True, "shared_att": True}, small={}),
    "perceiverio": Case(
        "perceiverio",
        {
            "channel_dim": 12,
            "num_blocks": 2,
            "num_heads": 3,
            "num_latents": 5,
            "mlp_ratio": 1.5,
            "act": "silu",
            "cross_attn": True,
            "mlp_implementation": "reference",
        },
    ),
    "lno": Case(
        "lno",
        {
            "channel_dim": 12,
            "num_blocks": 2,
            "num_heads": 3,
            "num_modes": 5,
            "num_layers_mlp": 1,
            "fun_dim": 4,
            "act": "tanh",
        },
        point_inputs={"fx": 4},
    ),
    "gnot": Case(
        "gnot", _GNOT | {"fun_dim": 2, "time_input": True}, point_inputs={"fx": 2}, sample_inputs={"time": ()}
    ),
    "gnot_grid": Case(
        "gnot",
        _GNOT
        | {
            "grid_shape": (3, 2, 2),
            "unified_pos": True,
            "unified_pos_drop_input": True,
            "ref": 2,
            "attn_type": "galerkin",
        },
        num_points=12,
        padding="in place",
        permutes=False,
    ),
    "upt": Case(
        "upt",
        {
            "channel_dim": 15,
            "num_heads": 3,
            "num_encoder_blocks": 1,
            "num_approximator_blocks": 1,
            "num_decoder_blocks": 1,
            "num_supernodes": 4,
            "num_latents": 5,
            "radius": 20.0,
            "max_degree": 3,
            "mlp_ratio": 1.5,
            "space_dim": 2,
            "coord_min": (-1.0, -2.0),
            "coord_scale": 10.0,
        },
        small={"num_approximator_blocks": 0, "num_decoder_blocks": 0},
        permutes=False,
    ),
}
