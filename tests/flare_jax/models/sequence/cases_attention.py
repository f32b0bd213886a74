"""Cases of the attention backends; no option keeps its default in all cases of a backend."""

from tests.flare_jax.models.sequence.case import BlockCase

_DROPS = {"attn_drop": 0.1, "proj_drop": 0.2}
_FLARE = {
    "num_latents": 5,
    "attn_scale": 0.6,
    "num_layers_kv_proj": 0,
    "num_layers_ffn": 1,
    "kv_proj_mlp_ratio": 0.5,
    "ffn_mlp_ratio": 1.5,
    "mlp_implementation": "reference",
    "implementation": "xla",
}
_FLAREPP = {
    "num_latents": 5,
    "k_norm": False,
    "share_k0_v0": False,
    "q_fixed_norm": False,
    "gate_logit_init": 0.4,
    "latent_std": 1.0,
    "identity_init": False,
    "num_layers_ffn": 1,
    "ffn_mlp_ratio": 1.5,
    "mlp_implementation": "reference",
    "implementation": "xla",
}
_PERFORMER = {
    "nb_features": 10,
    "redraw_interval": 3,
    "normalize_inputs": False,
    "mlp_ratio": 1.5,
    "estimator": "reference",
}

CASES = {
    "transformer": BlockCase("transformer", _DROPS | {"mlp_ratio": 1.5, "implementation": "xla"}, rope=True),
    "linformer": BlockCase(
        "linformer", _DROPS | {"k": 4, "seq_len": 20, "mlp_ratio": 1.5, "masked": False}, "refused", False, True
    ),
    "linformer_masked": BlockCase("linformer", {"k": 4}, permutes=False, rope=True),
    "flare": BlockCase("flare", _FLARE | _DROPS, rope=True),
    "flarepp": BlockCase("flarepp", _FLAREPP | _DROPS, rope=True),
    "flarepp_norms": BlockCase("flarepp", {"num_latents": 5, "ffn_mlp_ratio": 1.0}, rope=True),
    "linear": BlockCase(
        "linear", {"kernel": "elu", "norm_q": True, "norm_k": True, "mlp_ratio": 1.5, "proj_drop": 0.2}, rope=True
    ),
    "linear_hedgehog": BlockCase("linear", {"kernel": "hedgehog"}, rope=True),
    "linear_no": BlockCase(
        "linear_no",
        {"num_layers_ffn": 1, "ffn_mlp_ratio": 1.5, "proj_drop": 0.2, "masked": False},
        "refused",
        no_gradient=("att.k_proj.bias",),
    ),
    "linear_no_masked": BlockCase("linear_no", {}, no_gradient=("att.k_proj.bias",)),
    "performer": BlockCase("performer", _PERFORMER | _DROPS, rope=True, no_gradient=("att.proj_matrix",)),
    "performer_favor": BlockCase("performer", {"nb_features": 10}, rope=True, no_gradient=("att.proj_matrix",)),
}
