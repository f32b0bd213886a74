"""The published forms of FLARE++, and ours with FLARE's deep projections (arXiv 2608.11519).

`flarepp` is the gated form, `simplifiedflarepp` that of the paper's first version, `flarepp_ablations` has every choice
by itself; its gate is the parameter itself, that of `flarepp` the sigmoid of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flare_jax.checks import scaled_width
from flare_jax.layers.activations import RESIDUAL_MLP_ACTIVATIONS
from flare_jax.layers.initializers import LINEAR_STD, filled, identity_plus, linear_kernel, normal
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import FLAREPP_RMS_NORM_EPSILON, LayerNorm, RMSNorm, make_norm
from flare_jax.layers.residual_mlp import ResidualMLP
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.mixers.flare_attention import resolve_scale
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.option_groups import MixerConfig, RoutingConfig, depth, ratio
from flare_jax.options import option

_PARTS = ("k0", "v0", "k", "v")


@dataclass(frozen=True, kw_only=True)
class GatedConfig(RoutingConfig):
    """Options of the gated queries `norm(latent_q_fixed) + σ(gate_logit) · Qd`."""

    k_norm: bool = option(True, help="normalise the keys of the routing per head")
    share_k0_v0: bool = option(True, help="the first gather takes its normalised keys for values")
    gate_logit_init: float = option(0.25, help="initial logit of the gate of the gathered queries")
    q_fixed_norm: bool = option(True, help="normalise the fixed part of the queries")
    latent_std: float = option(
        LINEAR_STD,
        help="initial deviation of the latents; behind a norm it only sets how fast they turn",
        above=0,
    )


@dataclass(frozen=True, kw_only=True)
class FlareppConfig(GatedConfig):
    """Options of `flarepp`."""

    identity_init: bool = option(
        True, help="projections start near the identity; False: near 0, as in the original's sequence models"
    )
    explicit_residual: bool = option(
        False,
        help="store W − I of the projections, so that weight decay pulls them to the identity instead of to 0",
        needs="identity_init",
    )


@dataclass(frozen=True, kw_only=True)
class DeepFlareppConfig(GatedConfig):
    """Options of `flare_pp`: the gated queries with FLARE's residual MLPs for projections."""

    attn_scale: str | float = option(
        "sqrt", help="factor of the logits: 'one', 'sqrt' (1/√D) or a number", choices=("one", "sqrt"), above=0
    )
    act: str | None = option(None, help="activation of the MLPs", choices=tuple(RESIDUAL_MLP_ACTIVATIONS))
    num_layers_k0_proj: int = depth(-1, "map to k0")
    num_layers_k_proj: int = depth(3, "map to keys")
    num_layers_v_proj: int = depth(3, "map to values")
    k0_proj_mlp_ratio: float = ratio(1.0, "map to k0", unless=("num_layers_k0_proj", -1))
    k_proj_mlp_ratio: float = ratio(1.0, "map to keys", unless=("num_layers_k_proj", -1))
    v_proj_mlp_ratio: float = ratio(1.0, "map to values", unless=("num_layers_v_proj", -1))


@dataclass(frozen=True, kw_only=True)
class SimplifiedFlareppConfig(RoutingConfig):
    """Options of `simplifiedflarepp`: queries `Qd`, projections `x + W x`, all norms with parameters."""

    qk_norm: bool = option(False, help="normalise queries and keys of the routing per head")
    qk0_norm: bool = option(True, help="normalise queries and keys of the first gather per head")
    share_k0_v0: bool = option(False, help="the first gather takes its keys before their norm for values")


@dataclass(frozen=True, kw_only=True)
class FlareppAblationsConfig(RoutingConfig):
    """Options of `flarepp_ablations`."""

    q0_norm: bool = option(False, help="normalise the queries of the first gather")
    k0_norm: bool = option(False, help="normalise the keys of the first gather")
    v0_norm: bool = option(False, help="normalise the values of the first gather")
    q_norm: bool = option(False, help="normalise the queries of the routing")
    k_norm: bool = option(False, help="normalise the keys of the routing")
    q_fixed_norm: bool = option(True, help="normalise the fixed part of the queries", needs="use_gate")
    q0_elementwise_affine: bool = option(False, help="the norm of q0 has parameters", needs="q0_norm")
    k0_elementwise_affine: bool = option(False, help="the norm of k0 has parameters", needs="k0_norm")
    v0_elementwise_affine: bool = option(False, help="the norm of v0 has parameters", needs="v0_norm")
    q_elementwise_affine: bool = option(False, help="the norm of the queries has parameters", needs="q_norm")
    k_elementwise_affine: bool = option(False, help="the norm of the keys has parameters", needs="k_norm")
    q_fixed_elementwise_affine: bool = option(
        False, help="the norm of the fixed part has parameters", needs="q_fixed_norm"
    )
    k0_use_bias: bool = option(False, help="the map to k0 has a bias")
    v0_use_bias: bool = option(False, help="the map to v0 has a bias", unless=("share_k0_v0", True))
    k_use_bias: bool = option(False, help="the map to keys has a bias")
    v_use_bias: bool = option(False, help="the map to values has a bias")
    k0_use_residual: bool = option(False, help="the map to k0 starts at the identity")
    v0_use_residual: bool = option(False, help="the map to v0 starts at the identity", unless=("share_k0_v0", True))
    k_use_residual: bool = option(False, help="the map to keys starts at the identity")
    v_use_residual: bool = option(True, help="the map to values starts at the identity")
    share_k0_v0: bool = option(False, help="the first gather takes its keys before their norm for values")
    use_gate: bool = option(False, help="queries are fixed + gate · gathered instead of gathered")
    gate_logit_init: float = option(0.25, help="initial gate, which passes no sigmoid", needs="use_gate")


def flarepp(
    config: FlareppConfig,
    *,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    rope: RotaryEmbedding | None = None,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> SynthesizedRouting:
    """Return the gated mixer, whose projections are linear maps that start near the identity."""
    noise = linear_kernel
    initialize = identity_plus(noise) if config.identity_init else noise
    width = config.channel_dim

    def projection() -> Linear | ResidualMLP:
        if config.explicit_residual:
            return _residual_linear(config, dtype=dtype, rngs=rngs)
        return Linear(width, width, kernel_init=initialize, dtype=dtype, rngs=rngs)

    projections = {name: projection() for name in _gathered_parts(config.share_k0_v0)}
    return _gated(config, projections, attn_drop=attn_drop, proj_drop=proj_drop, rope=rope, dtype=dtype, rngs=rngs)


def deep_flarepp(config: DeepFlareppConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> SynthesizedRouting:
    """Return the gated mixer with residual MLPs for projections; `v0`, where it is not shared, has those of `k0`."""
    depths = {"k0": config.num_layers_k0_proj, "k": config.num_layers_k_proj, "v": config.num_layers_v_proj}
    ratios = {"k0": config.k0_proj_mlp_ratio, "k": config.k_proj_mlp_ratio, "v": config.v_proj_mlp_ratio}

    def projection(name: str) -> ResidualMLP:
        name = "k0" if name == "v0" else name
        hidden = scaled_width(f"{name}_proj_mlp_ratio", config.channel_dim, ratios[name])
        return _residual_mlp(config, hidden, depths[name], act=config.act, dtype=dtype, rngs=rngs)

    projections = {name: projection(name) for name in _gathered_parts(config.share_k0_v0)}
    scale = resolve_scale(config.attn_scale, config.head_dim)
    return _gated(config, projections, scale=scale, dtype=dtype, rngs=rngs)


def simplified_flarepp(
    config: SimplifiedFlareppConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> SynthesizedRouting:
    """Return the mixer without gate and fixed queries."""
    normed = [*(("q0", "k0") if config.qk0_norm else ()), *(("q", "k") if config.qk_norm else ())]
    return SynthesizedRouting(
        config.channel_dim,
        num_heads=config.heads,
        projections={
            name: _residual_linear(config, dtype=dtype, rngs=rngs) for name in _gathered_parts(config.share_k0_v0)
        },
        norms={name: _head_norm(config, affine=True, dtype=dtype) for name in normed},
        latent_q0=_latents(config, LINEAR_STD, rngs),
        implementation=config.implementation,
        mlp_implementation=config.mlp_implementation,
        dtype=dtype,
        rngs=rngs,
    )


def flarepp_ablations(
    config: FlareppAblationsConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
) -> SynthesizedRouting:
    """Return the mixer with every choice by itself; a residual is part of a map's initial weight."""
    width = config.channel_dim

    def projection(name: str) -> Linear:
        residual = getattr(config, f"{name}_use_residual")
        return Linear(
            width,
            width,
            use_bias=getattr(config, f"{name}_use_bias"),
            kernel_init=identity_plus(linear_kernel) if residual else linear_kernel,
            dtype=dtype,
            rngs=rngs,
        )

    named = ("q0", "k0", "v0", "q", "k", *(("q_fixed",) if config.use_gate else ()))
    return SynthesizedRouting(
        width,
        num_heads=config.heads,
        projections={name: projection(name) for name in _gathered_parts(config.share_k0_v0)},
        norms={
            name: _head_norm(config, affine=getattr(config, f"{name}_elementwise_affine"), dtype=dtype)
            for name in named
            if getattr(config, f"{name}_norm")
        },
        latent_q0=_latents(config, LINEAR_STD, rngs),
        latent_q_fixed=_latents(config, LINEAR_STD, rngs) if config.use_gate else None,
        gate_logit=filled(config.heads, config.gate_logit_init) if config.use_gate else None,
        implementation=config.implementation,
        mlp_implementation=config.mlp_implementation,
        dtype=dtype,
        rngs=rngs,
    )


def _gated(
    config: GatedConfig,
    projections: Mapping[str, Linear | ResidualMLP],
    *,
    scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    rope: RotaryEmbedding | None = None,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> SynthesizedRouting:
    affine = {"q0": True, "k0": False, "v0": False}
    affine |= ({"k": True} if config.k_norm else {}) | ({"q_fixed": False} if config.q_fixed_norm else {})
    return SynthesizedRouting(
        config.channel_dim,
        num_heads=config.heads,
        projections=projections,
        norms={name: _head_norm(config, affine=flag, dtype=dtype) for name, flag in affine.items()},
        latent_q0=_latents(config, config.latent_std, rngs),
        latent_q_fixed=_latents(config, config.latent_std, rngs),
        gate_logit=filled(config.heads, config.gate_logit_init),
        sigmoid_gate=True,
        scale=scale,
        attn_drop=attn_drop,
        proj_drop=proj_drop,
        rope=rope,
        implementation=config.implementation,
        mlp_implementation=config.mlp_implementation,
        dtype=dtype,
        rngs=rngs,
    )


def _gathered_parts(share_k0_v0: bool) -> tuple[str, ...]:
    """Return what the points are projected to."""
    return tuple(name for name in _PARTS if name != "v0" or not share_k0_v0)


def _residual_linear(config: RoutingConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> ResidualMLP:
    """Return the map x + W x + b."""
    return _residual_mlp(config, config.channel_dim, -1, act=None, dtype=dtype, rngs=rngs)


def _residual_mlp(
    config: RoutingConfig, hidden: int, depth: int, *, act: str | None, dtype: DTypeLike, rngs: nnx.Rngs
) -> ResidualMLP:
    width = config.channel_dim
    return ResidualMLP(
        width,
        hidden,
        width,
        num_layers=depth,
        act=act,
        dtype=dtype,
        implementation=config.mlp_implementation,
        rngs=rngs,
    )


def _head_norm(config: MixerConfig, *, affine: bool, dtype: DTypeLike) -> LayerNorm | RMSNorm:
    return make_norm(
        config.head_dim, rmsnorm=config.rmsnorm, rms_epsilon=FLAREPP_RMS_NORM_EPSILON, affine=affine, dtype=dtype
    )


def _latents(config: RoutingConfig, std: float, rngs: nnx.Rngs) -> Float[Array, "H M D"]:
    return normal(std)(rngs.params(), (config.heads, config.num_latents, config.head_dim))
