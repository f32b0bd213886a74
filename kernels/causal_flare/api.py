"""The public entry of the causal mixer: checks the arguments, chooses the implementation, calls it."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from kernels._checks import check_scale
from kernels._implementation import Request
from kernels._sharding import vary_alike
from kernels._target import Target
from kernels.causal_flare import table
from kernels.causal_flare.block import chunked_block_mixer, dense_block_mixer
from kernels.causal_flare.chunked import ChunkedBackend
from kernels.causal_flare.operands import LOWEST, Operands, State, empty_state
from kernels.causal_flare.pallas import PallasBackend
from kernels.causal_flare.reference import dense_mixer
from kernels.causal_flare.scheme import Backend, Backends, mix
from kernels.causal_flare.sharded import states_around
from kernels.causal_flare.validation import check_block, check_operands, check_state


def causal_flare(
    q: Float[Array, "H M D"],
    k: Float[Array, "B N H D"],
    v: Float[Array, "B N H C"],
    *,
    scale: float | int = 1.0,
    mask: Bool[Array, "B N"] | None = None,
    q_decode: Float[Array, "H M _"] | None = None,
    k_decode: Float[Array, "B N H _"] | None = None,
    log_decay: Float[Array, "B N H"] | None = None,
    block: int = 1,
    initial_state: State | None = None,
    axis_name: str | None = None,
    implementation: str | None = None,
    return_state: bool = False,
) -> Float[Array, "B N H C"] | tuple[Float[Array, "B N H C"], State]:
    """Mix tokens through causal latents: `z_t = softmax_{τ≤t}(scale q k_τᵀ) v_τ`, `y_t = softmax_M(scale k_t qᵀ) z_t`.

    q holds the latent queries, at most 2048 per head, k and v the keys and values of the tokens (`C` is the width of a
    value, usually D). `mask` is True for real tokens: the others leave the state unchanged and get output 0. `q_decode`
    and `k_decode` (default q and k) give the second softmax logits of its own. All these float arrays share one dtype;
    softmaxes, sums and states are float32.

    With `log_decay` (float32, at most 0) the state forgets: at each token everything before it loses the factor
    exp(log_decay) of its weight, and below -10⁴, minus infinity included, all of it, as at the start of a document.

    With `block` S the tokens form blocks of S, and a token reads latents that have gathered its own block to the end:
    causal from block to block, bidirectional inside. A part of a sequence then has to start with a block.

    `initial_state` continues a sequence from the state after its first part, default `init_state`. Both states are
    differentiable through `mass` and `total`; the `maximum` of a returned state is a reference point without gradient,
    so that gradients are right for whatever depends on it through this op, `decode_step`, `total / mass` or
    `maximum + log(mass)`.

    `implementation` is "reference" (O(N²M) memory), "xla" or "pallas", which has no blocks; None chooses by device,
    dtype and shape. The batch may be sharded inside `jax.shard_map`, and so may the tokens over the mesh axis
    `axis_name`, in order: the devices then exchange their states, whose size does not depend on the tokens, and the
    state that is returned is that after the tokens of all. Returns y in the dtype of v, with `return_state` also the
    state after the last token.

    Raises ValueError for shapes or dtypes that do not fit, a scale that is not positive and finite, an unknown
    implementation, and a named implementation that cannot serve the request.

    Source: FLARE, arXiv 2508.12594, section 3, with prefix softmaxes; both directions are derived in README.md.
    """
    scale = check_scale(scale)
    if q_decode is not None or k_decode is not None:
        q_decode = q if q_decode is None else q_decode
        k_decode = k if k_decode is None else k_decode
    operands = Operands(q, k, v, q_decode, k_decode, mask, log_decay)
    check_operands(operands)
    check_block(block, log_decay, axis_name)
    if initial_state is None:
        initial_state = empty_state((k.shape[0], k.shape[2], q.shape[1]), v.shape[-1])
    check_state(initial_state, operands)
    width = max(x.shape[-1] for x in (k, v, k_decode) if x is not None)
    request = Request(k.dtype.name, width, k.shape[1], axis_name, masked=mask is not None)
    selection = (table.OPERATION if block == 1 else table.BLOCKS).resolve(implementation, request)
    operands, state = vary_alike((operands, initial_state))
    # A state that starts at minus infinity, the textbook's choice, would give NaN as a difference with itself.
    state = state._replace(maximum=jnp.maximum(state.maximum, LOWEST))
    last_state = None
    if axis_name is not None:
        state, last_state = states_around(operands, state, scale=scale, axis_name=axis_name)
        operands, state = vary_alike((operands, state))
    if block > 1:
        mixer = dense_block_mixer if selection.implementation == "reference" else chunked_block_mixer
        y, final_state = mixer(operands, state, scale=scale, block=block)
    elif selection.implementation == "reference":
        y, final_state = dense_mixer(operands, state, scale=scale)
    else:
        y, final_state = mix(SelectedBackends(selection), scale, operands, state)
    return (y, final_state if last_state is None else last_state) if return_state else y


class SelectedBackends(Backends):
    """The backends of what was selected."""

    def on(self, target: Target) -> Backend:
        served = self.selection.on(target)
        if served.implementation == "xla":
            return ChunkedBackend(*table.chunk_sizes(target), target)
        return PallasBackend(served.blocks, target)
