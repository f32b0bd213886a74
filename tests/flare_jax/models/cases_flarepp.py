"""Cases of FLARE++ and the models it is compared with; no option keeps its default in all cases of a model type."""

from tests.flare_jax.models.case import Case

_STACK = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "act": "silu",
    "rmsnorm": True,
    "out_proj_norm": False,
    "num_layers_in_out_proj": 0,
    "num_layers_ffn": 1,
    "ffn_mlp_ratio": 1.5,
    "mlp_implementation": "reference",
    "remat": True,
}
_LATENTS = _STACK | {"num_latents": 5}
_ROUTING = _LATENTS | {"implementation": "xla"}
_GATED = _ROUTING | {
    "k_norm": False,
    "share_k0_v0": False,
    "gate_logit_init": 0.4,
    "q_fixed_norm": False,
    "latent_std": 1.0,
}
_PARTS = ("q0", "k0", "v0", "q", "k")
_ABLATIONS = (
    _ROUTING
    | {f"{name}_norm": True for name in _PARTS}
    | {f"{name}_elementwise_affine": True for name in (*_PARTS, "q_fixed")}
    | {f"{name}_use_bias": True for name in ("k0", "v0", "k", "v")}
    | {"k0_use_residual": True, "v0_use_residual": True, "k_use_residual": True, "v_use_residual": False}
    | {"use_gate": True, "gate_logit_init": 0.4}
)
_SHARED = {"v0_use_bias": False, "v0_use_residual": False, "share_k0_v0": True, "q_fixed_norm": False}
_SLICES = {"around": {"temperature": 0.8, "temperature_bias": 0.8}}

CASES = {
    "backbone_mha": Case("backbone_mha", _STACK | {"qk_norm": True}),
    "backbone_flare": Case("backbone_flare", _ROUTING | {"qk_norm": True}),
    "backbone_simplifiedflarepp": Case(
        "backbone_simplifiedflarepp", _ROUTING | {"qk_norm": True, "qk0_norm": False, "share_k0_v0": True}
    ),
    "backbone_flarepp": Case("backbone_flarepp", _GATED | {"explicit_residual": True}),
    # All norms and the shared values; the output of attention with keys of size one hardly depends on the gate.
    "backbone_flarepp_defaults": Case(
        "backbone_flarepp", _ROUTING | {"rmsnorm": False, "identity_init": False, "implementation": "reference"}
    ),
    "backbone_flarepp_ablations": Case("backbone_flarepp_ablations", _ABLATIONS),
    "backbone_flarepp_ablations_shared": Case("backbone_flarepp_ablations", _ABLATIONS | _SHARED),
    "backbone_transolver": Case("backbone_transolver", _LATENTS, **_SLICES),
    "backbone_transolverpp": Case("backbone_transolverpp", _LATENTS | {"eval_noise": False}, **_SLICES),
    "backbone_transolver3": Case("backbone_transolver3", _LATENTS, **_SLICES),
    "flarepp": Case(
        "flarepp", _GATED | {"num_latents": 5, "explicit_residual": True, "ffn_mlp_ratio": 1.0}, twin="backbone_flarepp"
    ),
    "flarepp_identity": Case(
        "flarepp", _ROUTING | {"identity_init": False, "ffn_mlp_ratio": 1.0}, twin="backbone_flarepp_defaults"
    ),
    "flare_pp": Case(
        "flare_pp",
        _GATED
        | {
            "num_layers_k0_proj": 1,
            "num_layers_k_proj": 0,
            "num_layers_v_proj": -1,
            "k0_proj_mlp_ratio": 1.5,
            "k_proj_mlp_ratio": 0.5,
            "v_proj_mlp_ratio": 2.0,
            "attn_scale": 0.7,
        },
    ),
    "luna": Case("luna", _LATENTS | {"qk_norm": True, "implementation": "xla"}),
    "set_transformer": Case("set_transformer", _LATENTS | {"implementation": "xla"}),
}
