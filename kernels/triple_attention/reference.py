"""The definition of triple attention in plain jnp; every other implementation is compared with this one."""

import jax
import jax.numpy as jnp

from kernels.triple_attention.contractions import Operands


def reference_attention(operands: Operands, *, scale: float) -> tuple[jax.Array, jax.Array]:
    """Return the output in the dtype of `v` and the float32 state (README.md, "Definition"); memory O(N D²)."""
    q1, q2, k1, k2, v = (x.astype(jnp.float32) for x in operands)
    state = scale * jnp.einsum("bnhi,bnhj,bnhl->bhijl", k1, v, k2, precision="highest")
    y = jnp.einsum("bnhi,bhijl,bnhl->bnhj", q1, state, q2, precision="highest")
    return y.astype(operands.v.dtype), state
