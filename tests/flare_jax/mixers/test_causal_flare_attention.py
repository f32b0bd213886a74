"""How the mixer of causal FLARE starts."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.mixers.causal_flare_attention import CausalFlareAttention, CausalFlareConfig
from flare_jax.mixers.causal_streams import Places
from tests.numerics import assert_close

_OPTIONS = {"channel_dim": 16, "num_blocks": 1, "num_heads": 2, "num_latents": 4, "short_conv": True, "qk_norm": True}


def test_separate_reading_starts_with_the_map_and_the_latents_of_gathering():
    """With the same convolution, too, it equals the mixer without reading of its own; all parameters are its own."""
    separate = CausalFlareAttention(CausalFlareConfig(separate_read=True, **_OPTIONS), rngs=nnx.Rngs(0))
    separate.r_conv.kernel[...] = jnp.copy(separate.k_conv.kernel[...])
    shared = CausalFlareAttention(CausalFlareConfig(separate_read=False, **_OPTIONS), rngs=nnx.Rngs(1))
    values = dict(nnx.to_flat_state(nnx.state(separate, nnx.Param)))
    own = dict(nnx.to_flat_state(nnx.state(shared, nnx.Param)))
    nnx.update(shared, nnx.from_flat_state([(path, values[path]) for path in own]))
    assert {path[0] for path in values.keys() - own.keys()} == {"latents_read", "r_proj", "r_conv", "qr_norm", "r_norm"}
    x, places = jax.random.normal(jax.random.key(2), (2, 9, 16)), Places(jnp.arange(9)[None].repeat(2, axis=0))
    both = jax.jit(lambda x: (separate(x, places)[0], shared(x, places)[0]))
    assert_close("y", *both(x), 1e-6)
    pointers = [np.asarray(v[...]).__array_interface__["data"][0] for v in (separate.latents, separate.latents_read)]
    assert pointers[0] != pointers[1], "a step may not be given one buffer as two parameters"
