"""FLARE++: one more gather makes the routing queries of FLARE from the input (arXiv 2608.11519).

Three forms carry that name and differ in how queries and values of this first gather are made: `FlareppConfig`,
`SimplifiedFlareppConfig` and `FlareppAblationsConfig`. All are one mixer with different parts switched on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from flare_jax.checks import check_dtype, check_head_dim
from flare_jax.layers.dropout import Key, check_rate, dropout, split_key
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm, RMSNorm, normalize
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches, apply_linears
from flare_jax.layers.rotary import RotaryEmbedding, check_even_heads
from flare_jax.layers.sharding import on_each_device
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.attention_statistics import attention_statistics, mean_cosine, root_mean_square
from flare_jax.mixers.gather_points import gather_points
from flare_jax.mixers.heads import merge_heads, split_heads
from flare_jax.mixers.routing_latents import LatentParameters, RoutingLatents
from kernels import flare_mixer, flarepp_mixer, gather
from kernels.residual_mlp import HeadNorm


class RoutingOperands(NamedTuple):
    """What the three attention calls work on; `v0` None stands for `k0`."""

    k0: Float[Array, "B N H D"]
    v0: Float[Array, "B N H D"] | None
    k: Float[Array, "B N H D"]
    v: Float[Array, "B N H D"]
    latents: RoutingLatents


class SynthesizedRouting(nnx.Module):
    """Token mixer of cost O(N·M) that gathers its M queries per head from the points before FLARE's two steps.

    Synthesis `Qd = softmax_N(s q0 k0ᵀ) v0`, queries `Q = combine(Qd)`, gather `z = softmax_N(s Q kᵀ) v`, scatter
    `y = softmax_M(s k Qᵀ) z`, where s is `scale`, by default 1/√D. `q0` is the parameter `latent_q0` [H, M, D].

    `projections` are the maps of the points by name: k0, k, v and, unless the first gather has the values of its keys,
    v0. `norms` are head norms by what they act on: q0, k0, v0, q (the queries), k and q_fixed; a missing one is the
    identity. With a `gate_logit` [H] the queries are `norm(latent_q_fixed) + gate · Qd`, where the gate is the logit
    itself or, with `sigmoid_gate`, its logistic sigmoid. `rope` turns k0, not v0, and k. With a random key `attn_drop`
    of the weights of all three softmaxes, which are then stored, and `proj_drop` of the output are dropped.
    """

    def __init__(
        self,
        channel_dim: int,
        *,
        num_heads: int,
        projections: Mapping[str, Linear | ResidualMLP],
        norms: Mapping[str, LayerNorm | RMSNorm],
        latent_q0: Float[Array, "H M D"],
        latent_q_fixed: Float[Array, "H M D"] | None = None,
        gate_logit: Float[Array, " H"] | None = None,
        sigmoid_gate: bool = False,
        scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        rope: RotaryEmbedding | None = None,
        dtype: DTypeLike = jnp.float32,
        implementation: str | None = None,
        mlp_implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        self.num_heads = num_heads
        self.head_dim = check_head_dim(channel_dim, num_heads)
        self.num_latents = latent_q0.shape[1]
        self.scale = self.head_dim**-0.5 if scale is None else scale
        self.dtype = check_dtype(dtype)
        self.implementation, self.mlp_implementation = implementation, mlp_implementation
        self.sigmoid_gate = sigmoid_gate
        self.attn_drop = check_rate("attn_drop", attn_drop)
        self.proj_drop = check_rate("proj_drop", proj_drop)
        self.rope = rope
        if rope is not None:
            check_even_heads(self.head_dim)
        self.latent_q0 = nnx.Param(latent_q0)
        self.latent_q_fixed = None if latent_q_fixed is None else nnx.Param(latent_q_fixed)
        self.gate_logit = None if gate_logit is None else nnx.Param(gate_logit)
        self.k0_proj, self.v0_proj = projections["k0"], projections.get("v0")
        self.k_proj, self.v_proj = projections["k"], projections["v"]
        self.q0_norm, self.k0_norm, self.v0_norm = norms.get("q0"), norms.get("k0"), norms.get("v0")
        self.q_norm, self.k_norm, self.q_fixed_norm = norms.get("q"), norms.get("k"), norms.get("q_fixed")
        self.out_proj = Linear(channel_dim, channel_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None, key: Key | None = None
    ) -> Float[Array, "B N C"]:
        """Mix the real points of each sample; a padded point receives the bias of `out_proj`."""
        attn_key, proj_key = split_key(key, 2)
        return dropout(self.out_proj(self.mix(x, mask, key=attn_key)), self.proj_drop, proj_key)

    def mix(
        self,
        x: Float[Array, "B N C"],
        mask: Bool[Array, "B N"] | None = None,
        norm: LayerNorm | RMSNorm | None = None,
        key: Key | None = None,
        latents: RoutingLatents | None = None,
    ) -> Float[Array, "B N C"]:
        """Return the merged heads before `out_proj`; `norm` is applied to x by the kernel of the projections.

        `latents` are those that `latents` returns, where they have been made together with those of other blocks.
        """
        operands = self.operands(x, norm, latents)
        if key is not None and self.attn_drop:
            y = mix_with_stored_weights(operands, mask, scale=self.scale, drop_rate=self.attn_drop, key=key)
        else:
            y = mix_in_kernels(operands, mask, scale=self.scale, implementation=self.implementation)
        return merge_heads(y)

    def operands(
        self,
        x: Float[Array, "B N C"],
        norm: LayerNorm | RMSNorm | None = None,
        latents: RoutingLatents | None = None,
    ) -> RoutingOperands:
        """Return the operands of the three attention calls for the points x, normalised by `norm` if given."""
        projected = self._project(("k0", "v0", "k", "v"), x, norm)
        k0, v0 = self._synthesis_points(projected)
        k, v = self._turned(projected["k"]), projected["v"]
        return RoutingOperands(k0, v0, k, v, self.latents() if latents is None else latents)

    def keys_and_values(
        self, x: Float[Array, "B N C"], norm: LayerNorm | RMSNorm | None = None
    ) -> tuple[Float[Array, "B N H D"], Float[Array, "B N H D"]]:
        """Return what the latents of the routing read of the points x, normalised by `norm` if given."""
        projected = self._project(("k", "v"), x, norm)
        return self._turned(projected["k"]), projected["v"]

    def keys(self, x: Float[Array, "B N C"], norm: LayerNorm | RMSNorm | None = None) -> Float[Array, "B N H D"]:
        """Return the keys alone, by which points read the latents."""
        return self._turned(self._project(("k",), x, norm)["k"])

    def synthesis_points(
        self, x: Float[Array, "B N C"], norm: LayerNorm | RMSNorm | None = None
    ) -> tuple[Float[Array, "B N H D"], Float[Array, "B N H D"] | None]:
        """Return the keys and values of the first gather for the points x, None for values that are the keys."""
        return self._synthesis_points(self._project(("k0", "v0"), x, norm))

    def _synthesis_points(self, projected: Mapping[str, Array]) -> tuple[Array, Array | None]:
        k0, v0 = projected["k0"], projected.get("v0")
        if self._takes_raw_values():
            k0, v0 = _normalized(k0, self.k0_norm), _normalized(k0, self.v0_norm)
        return (k0, v0) if self.rope is None else (self.rope(k0), k0 if v0 is None else v0)

    def _turned(self, k: Float[Array, "B N H D"]) -> Float[Array, "B N H D"]:
        return k if self.rope is None else self.rope(k)

    def _project(
        self, names: Sequence[str], x: Float[Array, "B N C"], norm: LayerNorm | RMSNorm | None
    ) -> dict[str, Float[Array, "B N H D"]]:
        """Apply the named maps, all linear layers or all residual MLPs, to x, with their heads' norms in one kernel.

        Where v0 is the projection of k0 before its norm, that norm is left out.
        """
        projections = {"k0": self.k0_proj, "v0": self.v0_proj, "k": self.k_proj, "v": self.v_proj}
        projections = {name: projections[name] for name in names if projections[name] is not None}
        norms = {"v0": self.v0_norm, "k": self.k_norm, **({} if self._takes_raw_values() else {"k0": self.k0_norm})}
        maps, head_norms = list(projections.values()), [self._of_heads(norms.get(name)) for name in projections]
        if isinstance(maps[0], ResidualMLP):
            results = apply_branches(maps, x, norm, head_norms)
        else:
            results = apply_linears(maps, x, norm, head_norms, implementation=self.mlp_implementation)
        return {name: split_heads(y, self.num_heads) for name, y in zip(projections, results, strict=True)}

    def _of_heads(self, norm: LayerNorm | RMSNorm | None) -> HeadNorm | None:
        """Return the norm as what the kernel of the projections does to each head."""
        return None if norm is None else HeadNorm(**vars(norm.operand()), heads=self.num_heads)

    def _takes_raw_values(self) -> bool:
        """Tell whether v0 is the projection of k0 with a norm that is not that of k0."""
        return self.v0_proj is None and not _is_parameter_free(self.k0_norm, self.v0_norm)

    def latent_parameters(self) -> LatentParameters:
        """Return the parameters of the latents, and what bounds the keys."""
        norms = self.q0_norm, self.q_fixed_norm, self.q_norm, self.k0_norm, self.k_norm
        return LatentParameters(
            self.latent_q0[...],
            None if self.latent_q_fixed is None else self.latent_q_fixed[...],
            None if self.gate_logit is None else self.gate_logit[...],
            *(None if norm is None else norm.operand() for norm in norms),
        )

    def latents(self) -> RoutingLatents:
        """Return what is made of these parameters alone."""
        return self.latent_parameters().prepare(sigmoid_gate=self.sigmoid_gate, turned=self.rope is not None)

    def statistics(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None
    ) -> dict[str, Float[Array, ""]]:
        """Return what characterises the synthesis for the input x of the mixer, in float32.

        Root mean squares of the operands, entropy and effective number of points of the rows of the first softmax, the
        mean cosine between different q0 of a head (NaN for one latent), and the mean gate (NaN without).
        """
        o = self.operands(x)
        q0, gate = o.latents.q0, o.latents.combination.gate
        gathered = gather_points(q0, o.k0, o.v0, mask, scale=self.scale, implementation=self.implementation)
        entropy, effective = attention_statistics(q0, o.k0, mask, scale=self.scale)
        v0 = o.k0 if o.v0 is None else o.v0
        return {
            "rms_q_dynamic": root_mean_square(gathered),
            **{f"rms_{n}": root_mean_square(t, mask) for n, t in (("k0", o.k0), ("v0", v0), ("k", o.k), ("v", o.v))},
            "synth_attn_entropy": entropy.mean(),
            "synth_n_eff": effective.mean(),
            "latent_q_offdiag_cos": mean_cosine(q0),
            "gate_value": jnp.asarray(jnp.nan) if gate is None else gate.mean(),
        }


def mix_in_kernels(
    operands: RoutingOperands, mask: Bool[Array, "B N"] | None, *, scale: float, implementation: str | None = None
) -> Float[Array, "B N H D"]:
    """Return the result of the three attention calls, each device working on its samples and points.

    The products of the synthesis, a mean over many points, are as exact as those of linear layers: TF32 by default.
    """

    def kernel(points: Any, latents: Any, axis_name: str | None) -> Array:
        (k0, v0, k, v, mask), (q0, combination, largest) = points, latents
        shared = {"scale": scale, "mask": mask, "axis_name": axis_name, "implementation": implementation}
        q0 = q0.astype(k0.dtype)
        if combination.fixed is not None and combination.norm is None:
            return flarepp_mixer(
                q0,
                combination.fixed,
                combination.gate,
                k0,
                k,
                v,
                v0,
                largest_keys=largest,
                synthesis_precision=None,
                **shared,
            )
        queries = combination(gather(q0, k0, v0, largest_key=largest[0], precision=None, **shared))
        return flare_mixer(queries.astype(k.dtype), k, v, largest_key=largest[1], **shared)

    points = (operands.k0, operands.v0, operands.k, operands.v, mask)
    return on_each_device(kernel, points, operands.latents, leading=operands.k.shape[:2], implementation=implementation)


def mix_with_stored_weights(
    operands: RoutingOperands, mask: Bool[Array, "B N"] | None, *, scale: float, drop_rate: float, key: Key | None
) -> Float[Array, "B N H D"]:
    """Return the same with a share of the weights of each softmax dropped; stores the weights."""
    keys = split_key(key, 3)
    k0, v0, k, v, (q0, combination, _) = operands
    options = {"scale": scale, "drop_rate": drop_rate}
    q0 = jnp.broadcast_to(q0.astype(k0.dtype).swapaxes(0, 1), (k0.shape[0], q0.shape[1], *k0.shape[2:]))
    # Unrounded, as the kernels give them, until the queries are whole.
    gathered = softmax_attention(
        q0, k0, k0 if v0 is None else v0, mask=mask, key=keys[0], out_dtype=jnp.float32, **options
    )
    queries = combination(gathered.swapaxes(1, 2)).swapaxes(1, 2).astype(k.dtype)
    z = softmax_attention(queries, k, v, mask=mask, key=keys[1], **options)
    y = softmax_attention(k, queries, z, key=keys[2], **options)
    return y if mask is None else jnp.where(mask[:, :, None, None], y, 0)


def _normalized(x: Float[Array, "B N H D"], norm: LayerNorm | RMSNorm | None) -> Float[Array, "B N H D"]:
    """Return x normalised per head in the dtype of x; the backward pass recomputes the norm from x."""
    if norm is None:
        return x
    return jax.checkpoint(lambda x, norm: normalize(x, norm).astype(x.dtype))(x, norm.operand())


def _is_parameter_free(*norms: LayerNorm | RMSNorm | None) -> bool:
    """Tell whether the norms are the same function: all absent, or all present and without parameters."""
    return all(norm is None for norm in norms) or all(norm is not None and norm.scale is None for norm in norms)
