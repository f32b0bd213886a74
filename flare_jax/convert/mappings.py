"""How the parameter names of each model differ from those of its PyTorch original, beyond the generic leaf rules."""

import types
from collections.abc import Mapping
from dataclasses import dataclass

from flare_jax.convert import flarepp_renames


@dataclass(frozen=True)
class TorchMapping:
    """Differences of one model.

    `renames` are pairs (ours, theirs) of leading parts of a dotted name, where `*` stands for a list index; the first
    that fits applies. `unused` are leading parts of PyTorch names that the original stores and never uses. `unsaved`
    are leading parts of our names that the original keeps out of its state_dict. `with_identity` are leading parts of
    our names whose kernel is W − I of the original's W.
    """

    renames: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    unsaved: tuple[str, ...] = ()
    with_identity: tuple[str, ...] = ()


_FLARE = TorchMapping(renames=(("out_proj.norm", "out_proj.0"), ("out_proj.mlp", "out_proj.1")))

_SLICE_RENAMES = (
    ("preprocess.fc1", "preprocess.linear_pre.0"),
    ("preprocess.fc2", "preprocess.linear_post"),
    ("time_fc.fc1", "time_fc.0"),
    ("time_fc.fc2", "time_fc.2"),
    ("blocks.*.norm1", "blocks.*.ln_1"),
    ("blocks.*.norm2", "blocks.*.ln_2"),
    ("blocks.*.norm3", "blocks.*.ln_3"),
    ("blocks.*.mlp.fc1", "blocks.*.mlp.linear_pre.0"),
    ("blocks.*.mlp.fc2", "blocks.*.mlp.linear_post"),
    ("blocks.*.head", "blocks.*.mlp2"),
    ("blocks.*.att.key_proj", "blocks.*.Attn.in_project_x"),
    ("blocks.*.att.value_proj", "blocks.*.Attn.in_project_fx"),
    ("blocks.*.att.point_proj", "blocks.*.Attn.in_project_x"),
    ("blocks.*.att.slice_proj", "blocks.*.Attn.in_project_slice"),
    ("blocks.*.att.temperature_mlp.fc1", "blocks.*.Attn.proj_temperature.0"),
    ("blocks.*.att.temperature_mlp.fc2", "blocks.*.Attn.proj_temperature.2"),
    ("blocks.*.att.temperature_bias", "blocks.*.Attn.bias"),
    ("blocks.*.att.token_mixer.q_proj", "blocks.*.Attn.to_q"),
    ("blocks.*.att.token_mixer.k_proj", "blocks.*.Attn.to_k"),
    ("blocks.*.att.token_mixer.v_proj", "blocks.*.Attn.to_v"),
    ("blocks.*.att.token_mixer", "blocks.*.Attn.hydra"),
    ("blocks.*.att.out_proj", "blocks.*.Attn.to_out.0"),
    ("blocks.*.att", "blocks.*.Attn"),
)
_LEARNED_SLICE_RENAMES = (
    ("norm", "final_layer.ln"),
    ("head", "final_layer.mlp"),
    ("blocks.*.norm1", "blocks.*.ln1"),
    ("blocks.*.norm2", "blocks.*.ln2"),
    ("blocks.*.att.slice_q", "blocks.*.att.wtq"),
    ("blocks.*.att.kv_proj", "blocks.*.att.wt_kv_proj"),
)
_STATE_SPACE_RENAMES = tuple(
    (f"blocks.*.att.token_mixer.{ours}", f"blocks.*.Attn.hydra.{theirs}")
    for ours, theirs in (
        ("convolution", "conv1d"),
        ("diagonal", "fc_D"),
        ("skip", "D"),
        ("forward.convolution", "conv1d"),
        ("forward.skip", "D"),
        ("forward.A_log", "A_log"),
        ("forward.dt_bias", "dt_bias"),
        ("backward.convolution", "conv1d_b"),
        ("backward.skip", "D_b"),
        ("backward.A_log", "A_log_b"),
        ("backward.dt_bias", "dt_bias_b"),
    )
)

_LNO = TorchMapping(
    renames=(
        ("blocks.*.norm1", "attn_blocks.*.ln1"),
        ("blocks.*.norm2", "attn_blocks.*.ln2"),
        ("blocks.*.att.q_proj", "attn_blocks.*.self_attn.Wq"),
        ("blocks.*.att.k_proj", "attn_blocks.*.self_attn.Wk"),
        ("blocks.*.att.v_proj", "attn_blocks.*.self_attn.Wv"),
        ("blocks.*.att.out_proj", "attn_blocks.*.self_attn.proj"),
        ("blocks.*.mlp.fc1", "attn_blocks.*.mlp.0"),
        ("blocks.*.mlp.fc2", "attn_blocks.*.mlp.2"),
    )
)
_GNOT_ATTENTION = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "proj"))
_GNOT = TorchMapping(
    renames=(
        ("preprocess_x.fc1", "preprocess_x.linear_pre.0"),
        ("preprocess_x.fc2", "preprocess_x.linear_post"),
        ("preprocess_z.fc1", "preprocess_z.linear_pre.0"),
        ("preprocess_z.fc2", "preprocess_z.linear_post"),
        ("time_fc.fc1", "time_fc.0"),
        ("time_fc.fc2", "time_fc.2"),
        ("blocks.*.norm_x", "blocks.*.ln1"),
        ("blocks.*.norm_z", "blocks.*.ln2"),
        ("blocks.*.norm_experts1", "blocks.*.ln3"),
        ("blocks.*.norm_self", "blocks.*.ln4"),
        ("blocks.*.norm_experts2", "blocks.*.ln5"),
        *((f"blocks.*.cross_att.{ours}", f"blocks.*.crossattn.{theirs}") for ours, theirs in _GNOT_ATTENTION),
        *((f"blocks.*.self_att.{ours}", f"blocks.*.selfattn.{theirs}") for ours, theirs in _GNOT_ATTENTION),
        ("blocks.*.experts1.*.fc1", "blocks.*.moe_mlp1.*.0"),
        ("blocks.*.experts1.*.fc2", "blocks.*.moe_mlp1.*.2"),
        ("blocks.*.experts2.*.fc1", "blocks.*.moe_mlp2.*.0"),
        ("blocks.*.experts2.*.fc2", "blocks.*.moe_mlp2.*.2"),
        ("blocks.*.gate.fc1", "blocks.*.gatenet.0"),
        ("blocks.*.gate.fc2", "blocks.*.gatenet.2"),
        ("blocks.*.gate.fc3", "blocks.*.gatenet.4"),
        ("head.fc1", "fc1"),
        ("head.fc2", "fc2"),
    )
)
_PERCEIVER_IO = TorchMapping(
    renames=(
        ("encoder.norm", "encoder.ln"),
        ("encoder.att", "encoder"),
        ("blocks.*.norm1", "blocks.*.ln1"),
        ("blocks.*.norm2", "blocks.*.ln2"),
        ("blocks.*.norm_q", "blocks.*.ln1"),
        ("blocks.*.norm_kv", "blocks.*.ln2"),
        ("blocks.*.norm_mlp", "blocks.*.ln3"),
        ("decoder.norm_latents", "decoder.ln1"),
        ("decoder.norm_points", "decoder.ln2"),
        ("decoder.att", "decoder"),
        ("out_proj.norm", "out_proj.ln"),
    )
)


def _upt_self_blocks(part: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{part}_blocks.*.att.qkv_proj", f"{part}.blocks.*.attn.qkv"),
        (f"{part}_blocks.*.att.out_proj", f"{part}.blocks.*.attn.proj"),
        (f"{part}_blocks", f"{part}.blocks"),
    )


def _upt_cross_block(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{ours}.norm_q", f"{theirs}.norm1q"),
        (f"{ours}.norm_kv", f"{theirs}.norm1kv"),
        (f"{ours}.norm_mlp", f"{theirs}.norm2"),
        (f"{ours}.att.q_proj", f"{theirs}.attn.q"),
        (f"{ours}.att.kv_proj", f"{theirs}.attn.kv"),
        (f"{ours}.att.out_proj", f"{theirs}.attn.proj"),
        (ours, theirs),
    )


# The names of the tutorial of UPT's authors, which stores the frequencies of the coordinate embedding as buffers.
_UPT = TorchMapping(
    renames=(
        ("supernode_pooling.input_proj", "encoder.supernode_pooling.input_proj.proj"),
        ("supernode_pooling.message1", "encoder.supernode_pooling.message.0.proj"),
        ("supernode_pooling.message2", "encoder.supernode_pooling.message.2.proj"),
        *_upt_self_blocks("encoder"),
        ("query", "encoder.perceiver.query"),
        *_upt_cross_block("latent_pooling", "encoder.perceiver.perceiver"),
        *_upt_self_blocks("approximator"),
        *_upt_self_blocks("decoder"),
        ("query_proj.fc1", "decoder.query_proj.0.proj"),
        ("query_proj.fc2", "decoder.query_proj.2.proj"),
        *_upt_cross_block("decoder", "decoder.perc"),
        ("out_norm", "decoder.pred.0"),
        ("out_proj", "decoder.pred.1.proj"),
    ),
    unused=("encoder.supernode_pooling.pos_embed", "decoder.pos_embed"),
)

_MESH_GRAPH_NET_PARTS = (
    ("node_encoder", "node_encoder"),
    ("edge_encoder", "edge_encoder"),
    ("blocks.*.edge_mlp", "processor.*.edge_mlp"),
    ("blocks.*.node_mlp", "processor.*.node_mlp"),
    ("decoder", "decoder"),
)
_MESH_GRAPH_NET = TorchMapping(
    renames=tuple(
        (f"{ours}.{layer}", f"{theirs}.{place}")
        for ours, theirs in _MESH_GRAPH_NET_PARTS
        for layer, place in (("fc1", 0), ("fc2", 2), ("norm", 3))
    )
)

# The keys of the original's sequence models; `blocks` of all backends are named alike.
_SEQUENCE_RENAMES = (
    ("token_embedding", "token_emb.token_embed"),
    ("positions.embedding", "pos_emb.pe.embedding"),
    ("positions", "pos_emb"),
    ("head.norm", "cls_proj.1"),
    ("head.fc1", "cls_proj.2.0"),
    ("head.fc2", "cls_proj.2.2"),
    ("head.fc", "cls_proj.2"),
    ("halt_head.norm", "halt_proj.1"),
    ("halt_head.fc", "halt_proj.2"),
    ("blocks.*.att.query_proj", "blocks.*.att.q_proj.0"),
    ("blocks.*.att.key_proj", "blocks.*.att.k_proj.0"),
    ("blocks.*.att.value_proj", "blocks.*.att.v_proj.0"),
    ("blocks.*.att.gate_proj1", "blocks.*.att.gate_proj1.0"),
    ("blocks.*.att.gate_proj2", "blocks.*.att.gate_proj2.0"),
)
_RANDOM_FEATURES = ("blocks.*.att.proj_matrix",)

_FLAREPP = TorchMapping(renames=flarepp_renames.FLAREPP, with_identity=flarepp_renames.EXPLICIT_RESIDUALS)
_BACKBONE = TorchMapping(renames=flarepp_renames.BACKBONE)
_BACKBONE_SLICES = TorchMapping(renames=flarepp_renames.SLICES)

TORCH_MAPPINGS: Mapping[str, TorchMapping] = types.MappingProxyType(
    {
        "flare": _FLARE,
        "flare_experimental": _FLARE,
        "flare_ablations": TorchMapping(
            renames=(
                ("out_proj.norm", "out_proj.ln"),
                ("blocks.*.norm1", "blocks.*.ln1"),
                ("blocks.*.norm2", "blocks.*.ln2"),
            )
        ),
        "loopy": _FLARE,
        "unloopy": _FLARE,
        "transformer": _FLARE,
        "linformer": _FLARE,
        "linear": _FLARE,
        "sequence": TorchMapping(renames=_SEQUENCE_RENAMES, unsaved=_RANDOM_FEATURES),
        "trm": TorchMapping(renames=_SEQUENCE_RENAMES, unsaved=_RANDOM_FEATURES),
        "transolver": TorchMapping(renames=_SLICE_RENAMES),
        "transolver++": TorchMapping(renames=_SLICE_RENAMES, unused=("embedding",)),
        "lamo": TorchMapping(renames=(*_STATE_SPACE_RENAMES, *_SLICE_RENAMES)),
        "lno": _LNO,
        "gnot": _GNOT,
        "perceiverio": _PERCEIVER_IO,
        "upt": _UPT,
        "ts1_uncond": TorchMapping(
            renames=(*_LEARNED_SLICE_RENAMES, ("blocks.*.att.out_proj", "blocks.*.att.to_out.0")),
            unused=("blocks.*.att.wtq_bias",),
        ),
        "ts3_uncond": TorchMapping(
            renames=(
                *_LEARNED_SLICE_RENAMES,
                ("blocks.*.att.mix", "blocks.*.att.mix.weights"),
                ("blocks.*.att.norm1", "blocks.*.att.ln1"),
                ("blocks.*.att.norm2", "blocks.*.att.ln2"),
                ("blocks.*.att.token_gain", "blocks.*.att.alphaC"),
                ("blocks.*.att.token_att", "blocks.*.att.mha"),
            ),
            unused=("blocks.*.att.gn1", "blocks.*.att.gn2"),
        ),
        "flarepp": _FLAREPP,
        "flare_pp": _BACKBONE,
        "backbone_mha": _BACKBONE,
        "backbone_flare": _BACKBONE,
        "backbone_simplifiedflarepp": _BACKBONE,
        "backbone_flarepp": _FLAREPP,
        "backbone_flarepp_ablations": _BACKBONE,
        "backbone_transolver": _BACKBONE_SLICES,
        "backbone_transolverpp": _BACKBONE_SLICES,
        "backbone_transolver3": TorchMapping(renames=flarepp_renames.SLICE_SPACE),
        "luna": TorchMapping(renames=flarepp_renames.LUNA),
        "set_transformer": TorchMapping(renames=flarepp_renames.SET_TRANSFORMER),
        "mesh_graph_net": _MESH_GRAPH_NET,
    }
)


def torch_path(path: str, mapping: TorchMapping) -> str:
    """Return the PyTorch spelling of the dotted path of a module or parameter of ours."""
    parts = path.split(".")
    for ours, theirs in mapping.renames:
        pattern = ours.split(".")
        if _starts_with(parts, pattern):
            indices = iter(part for part, wanted in zip(parts, pattern, strict=False) if wanted == "*")
            renamed = [next(indices) if part == "*" else part for part in theirs.split(".")]
            return ".".join([*renamed, *parts[len(pattern) :]])
    return path


def is_unused(torch_name: str, mapping: TorchMapping) -> bool:
    """Tell whether the original stores this entry without using it."""
    parts = torch_name.split(".")
    return any(_starts_with(parts, pattern.split(".")) for pattern in mapping.unused)


def is_unsaved(path: str, mapping: TorchMapping) -> bool:
    """Tell whether the original keeps what we have under this dotted path out of its state_dict."""
    return any(_starts_with(path.split("."), pattern.split(".")) for pattern in mapping.unsaved)


def has_identity(path: str, mapping: TorchMapping) -> bool:
    """Tell whether what we have under this dotted path is a kernel W − I of the original's W."""
    parts = path.split(".")
    return parts[-1] == "kernel" and any(_starts_with(parts, pattern.split(".")) for pattern in mapping.with_identity)


def _starts_with(parts: list[str], pattern: list[str]) -> bool:
    if len(parts) < len(pattern):
        return False
    pairs = zip(parts, pattern, strict=False)
    return all(part.isdigit() if wanted == "*" else part == wanted for part, wanted in pairs)
