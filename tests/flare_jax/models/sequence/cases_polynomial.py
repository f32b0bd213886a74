"""Cases of the backends with polynomial states, of third order and with moving averages."""

from tests.flare_jax.models.sequence.case import BlockCase

_STATE = {
    "kernel": "hadamard",
    "qk_dim_ratio": 0.5,
    "norm_q": True,
    "norm_k": True,
    "num_layers_kv_proj": 0,
    "num_layers_ffn": 1,
    "ffn_mlp_ratio": 1.5,
    "proj_drop": 0.2,
    "mlp_implementation": "reference",
}
_TRIPLE1 = {"mlp_ratio": 1.5, "proj_drop": 0.2, "implementation": "reference", "mlp_implementation": "reference"}
_DROPS = {"attn_drop": 0.1, "proj_drop": 0.2}

CASES = {
    "ema": BlockCase("ema", _DROPS | {"mlp_ratio": 1.5}, permutes=False),
    "ema_unmasked": BlockCase("ema", {"ema_impl": "conv", "masked_ema": False}, padding="ignored", permutes=False),
    "multilinear": BlockCase("multilinear", _STATE | {"num_states": 3}, "inert"),
    "strassen": BlockCase("strassen", _STATE, "inert"),
    "triple": BlockCase("triple", _STATE | {"implementation": "reference"}, "inert"),
    "triple1": BlockCase("triple1", _TRIPLE1, "inert"),
    "quad": BlockCase("quad", _STATE, "inert"),
    "third_order": BlockCase("third_order", {"mlp_ratio": 1.5, "proj_drop": 0.2}),
    "third_order_ignoring_masks": BlockCase("third_order", {"ignore_mask": True}, "ignored"),
    "third_order_strassen": BlockCase(
        "third_order", _DROPS | {"third_order_method": "strassen", "reference_epsilon": True}
    ),
}
