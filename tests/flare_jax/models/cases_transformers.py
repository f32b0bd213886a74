"""Cases of the transformer-like models; no option keeps its default in all cases of a model type."""

from tests.flare_jax.models.case import Case

_COMMON = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "act": "silu",
    "in_out_proj_act": "gelu",
    "rmsnorm": True,
    "out_proj_norm": False,
    "num_layers_in_out_proj": 0,
    "in_out_proj_ratio": 1.5,
    "mlp_implementation": "reference",
    "remat": True,
    "mlp_ratio": 1.5,
}
_GELU = {"act": None, "in_out_proj_act": None}
_LINFORMER = _COMMON | {"seq_len": 19, "k": 4}
# Features of the perturbed parameters vary little here; it is the norm after the map that must not be forgotten.
_LINEAR = _COMMON | {"kernel": "elu", "norm_q": True, "norm_k": True}

CASES = {
    "transformer": Case("transformer", _COMMON | {"implementation": "xla"}),
    "transformer_gelu": Case("transformer", _COMMON | _GELU | {"rmsnorm": False, "out_proj_norm": True}),
    "linformer": Case("linformer", _LINFORMER, padding="trailing", permutes=False),
    "linear": Case("linear", _LINEAR),
    "linear_hedgehog": Case("linear", _LINEAR | {"kernel": "hedgehog", "norm_q": False, "norm_k": False}),
}
