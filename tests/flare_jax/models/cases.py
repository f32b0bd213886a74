"""Small models that the tests share, with parameters perturbed so that zeros and ones matter."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flare_jax.models import build_model
from flare_jax.params import Params, split

IN_DIM, OUT_DIM = 3, 2

_FLARE = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 2,
    "num_latents": 5,
    "act": "silu",
    "rmsnorm": True,
    "out_proj_norm": False,
    "num_layers_in_out_proj": 0,
    "attn_scale": 0.37,
    "num_layers_k_proj": 0,
    "num_layers_v_proj": -1,
    "k_proj_mlp_ratio": 0.5,
    "v_proj_mlp_ratio": 2.0,
    "num_layers_ffn": 1,
    "ffn_mlp_ratio": 1.5,
    "qk_norm": True,
    "implementation": "xla",
    "mlp_implementation": "reference",
}
_ABLATIONS = {
    "channel_dim": 12,
    "num_blocks": 2,
    "num_heads": 3,
    "num_latents": 5,
    "act": "silu",
    "num_layers_kv_proj": -1,
    "num_layers_mlp": 0,
    "num_layers_in_out_proj": 1,
    "mlp_ratio": 0.5,
    "kv_proj_ratio": 2.0,
    "in_out_proj_ratio": 1.5,
    "out_proj_ln": False,
    "mlp_implementation": "reference",
}

# No option of a model keeps its default in the cases named after it alone.
CASES = {
    "flare": ("flare", _FLARE),
    "flare_experimental": (
        "flare_experimental",
        _FLARE | {"qk_norm": False, "rmsnorm": False, "implementation": "reference"},
    ),
    "flare_ablations": ("flare_ablations", _ABLATIONS | {"shared_latents": True, "implementation": "reference"}),
    "flare_ablations_latent_blocks": (
        "flare_ablations",
        _ABLATIONS | {"num_latent_blocks": 2, "act": None, "out_proj_ln": True},
    ),
}


def build(case: str, *, dtype="float32", **changes) -> nnx.Module:
    """Return a model of the case, with its initial parameters."""
    model_type, options = CASES[case]
    return build_model(model_type, IN_DIM, OUT_DIM, options | changes, rngs=nnx.Rngs(0), dtype=dtype)


def build_perturbed(case: str, *, dtype="float32", **changes) -> tuple[nnx.GraphDef, Params]:
    """Return structure and parameters of the case, random around 1 for scales and around 0 for all others."""
    graphdef, template = split(nnx.eval_shape(lambda: build(case, dtype=dtype, **changes)))
    generator = np.random.default_rng(1)
    return graphdef, {
        name: jnp.asarray(name.endswith("scale") + 0.2 * generator.standard_normal(leaf.shape), jnp.float32)
        for name, leaf in template.items()
    }


def points(b: int = 2, n: int = 11) -> jax.Array:
    """Return random input points [b, n, IN_DIM]."""
    return jax.random.normal(jax.random.key(2), (b, n, IN_DIM), jnp.float32)
