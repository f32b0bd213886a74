"""Cases of the FLARE models; no option keeps its default in all cases of a model type."""

from tests.flare_jax.models.case import Case

_FLARE = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "num_latents": 5,
    "act": "silu",
    "rmsnorm": True,
    "out_proj_norm": False,
    "num_layers_in_out_proj": 0,
    "attn_scale": 0.37,
    "num_layers_k_proj": 0,
    "num_layers_v_proj": -1,
    "k_proj_mlp_ratio": 0.5,
    "num_layers_ffn": 1,
    "ffn_mlp_ratio": 1.5,
    "qk_norm": True,
    "implementation": "xla",
    "mlp_implementation": "reference",
    "remat": True,
}
_ABLATIONS = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 3,
    "num_latents": 5,
    "act": "silu",
    "num_layers_kv_proj": 0,
    "num_layers_ffn": 0,
    "num_layers_in_out_proj": 1,
    "ffn_mlp_ratio": 0.5,
    "kv_proj_mlp_ratio": 2.0,
    "in_out_proj_ratio": 1.5,
    "out_proj_norm": False,
    "mlp_implementation": "reference",
    "remat": True,
}

CASES = {
    "flare": Case("flare", _FLARE),
    "flare_experimental": Case(
        "flare_experimental",
        _FLARE
        | {
            "qk_norm": False,
            "rmsnorm": False,
            "implementation": "reference",
            "num_layers_v_proj": 1,
            "v_proj_mlp_ratio": 2.0,
        },
        twin="flare",
    ),
    "flare_ablations": Case("flare_ablations", _ABLATIONS | {"shared_latents": True, "implementation": "reference"}),
    "flare_ablations_latent_blocks": Case(
        "flare_ablations",
        _ABLATIONS
        | {
            "num_latent_blocks": 2,
            "act": None,
            "out_proj_norm": True,
            "num_layers_kv_proj": -1,
            "kv_proj_mlp_ratio": 1.0,
        },
    ),
}
