"""How the parameter names of FLARE++ and the models it is compared with differ from those of their originals.

Pairs (ours, theirs) of leading parts of names, as in `TorchMapping`.
"""

Renames = tuple[tuple[str, str], ...]

_PROJECTIONS = ("k0_proj", "v0_proj", "k_proj", "v_proj")
_OUTER: Renames = (
    ("out_proj.norm", "out_proj.0"),
    ("out_proj.mlp", "out_proj.1"),
    ("blocks.*.mlp", "blocks.*.ffn"),
)
BACKBONE: Renames = (("blocks.*.att", "blocks.*.mixer"), *_OUTER)
# Ours with an explicit residual are MLPs of one layer, theirs linear layers with the identity in their weight.
FLAREPP: Renames = (*((f"blocks.*.att.{name}.fc", f"blocks.*.mixer.{name}") for name in _PROJECTIONS), *BACKBONE)
EXPLICIT_RESIDUALS = tuple(f"blocks.*.att.{name}.fc" for name in _PROJECTIONS)
_SLICE_ATTENTION = (
    ("key_proj", "in_project_x"),
    ("value_proj", "in_project_fx"),
    ("point_proj", "in_project_x"),
    ("in_proj", "in_project"),
    ("slice_proj", "in_project_slice"),
    ("temperature_mlp.fc1", "proj_temperature.0"),
    ("temperature_mlp.fc2", "proj_temperature.2"),
    ("temperature_bias", "bias"),
    ("token_mixer.q_proj", "to_q"),
    ("token_mixer.k_proj", "to_k"),
    ("token_mixer.v_proj", "to_v"),
)


def _slices(out_proj: str) -> Renames:
    pairs = (*_SLICE_ATTENTION, ("out_proj", out_proj))
    return (*((f"blocks.*.att.{ours}", f"blocks.*.mixer.{theirs}") for ours, theirs in pairs), *BACKBONE)


SLICES, SLICE_SPACE = _slices("to_out.0"), _slices("to_out_linear")
LUNA: Renames = (
    *((f"blocks.*.att.pack_{name}_proj", f"blocks.*.att.p{name}_proj") for name in "qkv"),
    ("blocks.*.norm_packed", "blocks.*.norm_p"),
    *_OUTER[:2],
)
_SET_ATTENTION = (
    ("q_proj", "fc_q"),
    ("k_proj", "fc_k"),
    ("v_proj", "fc_v"),
    ("out_proj", "fc_o"),
    ("norm0", "ln0"),
    ("norm1", "ln1"),
)
SET_TRANSFORMER: Renames = (
    ("blocks.*.att.inducing_points", "blocks.*.attn.I"),
    *(
        (f"blocks.*.att.{block}.{ours}", f"blocks.*.attn.{mab}.{theirs}")
        for block, mab in (("gathering", "mab0"), ("scattering", "mab1"))
        for ours, theirs in _SET_ATTENTION
    ),
    *_OUTER,
)
