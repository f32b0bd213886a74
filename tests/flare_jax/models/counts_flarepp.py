"""Numbers of parameters of the published comparison of FLARE++, and of its runs on whole surfaces."""

_KINDS = (
    "backbone_mha",
    "backbone_flare",
    "backbone_simplifiedflarepp",
    "backbone_flarepp",
    "backbone_transolver",
    "backbone_transolverpp",
    "luna",
    "set_transformer",
)
# Points of the data set: input channels, blocks, latents, and the numbers of the models above.
_SUITE = {
    "elasticity": (2, 8, 64, 1_159_681, 1_093_121, 1_357_825, 1_291_329, 1_042_497, 919_625, 1_566_209, 1_761_793),
    "darcy": (3, 8, 128, 1_159_809, 1_158_785, 1_423_489, 1_422_529, 1_051_329, 937_673, 1_574_529, 1_827_457),
    "pipe": (2, 2, 64, 364_801, 348_161, 414_337, 397_713, 335_505, 304_787, 472_577, 515_329),
    "drivaerml_40k": (3, 4, 64, 629_889, 596_609, 728_961, 695_713, 571_297, 509_861, 837_249, 930_945),
}
# Blocks, latents, FLARE, FLARE++.
_SURFACE = [
    (2, 32, 340_228, 381_524),
    (2, 128, 364_804, 430_676),
    (4, 64, 596_228, 695_204),
    (8, 64, 1_091_844, 1_289_796),
]
_GATE_PRESET = {"use_gate": True} | {f"{name}_norm": True for name in ("q0", "k0", "v0", "k", "q_fixed")}


def _suite_options(model_type: str, num_blocks: int, num_latents: int) -> dict[str, object]:
    options = {"channel_dim": 128, "num_heads": 8, "num_blocks": num_blocks, "ffn_mlp_ratio": 2.0}
    return options if model_type == "backbone_mha" else options | {"num_latents": num_latents}


def _rows() -> list[tuple[str, int, int, dict[str, object], int]]:
    """Return (model type, channels in, channels out, options, number of parameters)."""
    rows = []
    for in_dim, blocks, latents, *counts in _SUITE.values():
        options = {kind: _suite_options(kind, blocks, latents) for kind in _KINDS}
        rows += [(kind, in_dim, 1, options[kind], count) for kind, count in zip(_KINDS, counts, strict=True)]
    slices = _suite_options("backbone_transolver3", 8, 64)
    rows += [("backbone_transolver3", 2, 1, slices, 1_042_497)]
    rows += [("backbone_flarepp_ablations", 2, 1, slices, 1_353_217)]
    rows += [("backbone_flarepp_ablations", 2, 1, slices | _GATE_PRESET, 1_418_817)]
    for blocks, latents, flare, flarepp in _SURFACE:
        options = _suite_options("flarepp", blocks, latents) | {"rmsnorm": True}
        rows += [("backbone_flare", 6, 4, options, flare), ("flarepp", 6, 4, options, flarepp)]
    wide = _suite_options("flarepp", 8, 128) | {"rmsnorm": True, "ffn_mlp_ratio": 4.0}
    rows += [("backbone_flare", 6, 4, wide, 1_683_716), ("backbone_flarepp", 6, 4, wide, 1_947_204)]
    # As derived: a block of FLARE has another linear map and, per head, its latents twice, a gate and the norms.
    flare = {"channel_dim": 64, "num_blocks": 8, "num_heads": 8, "num_latents": 64}
    extra = 64 * 64 + 64 + 64 * 64 + 8 + 4 * 8
    return [*rows, ("flare_pp", 2, 1, flare, 592_641 + 8 * extra)]


ROWS = _rows()
