"""Models of which every device holds some points from the first layer to the last.

The points of FLARE and FLARE++ meet in their gathers alone, and those merge the points of all devices by themselves.
So the whole model can run on each device's own points, in one `jax.shard_map` that is given all parameters as one
vector: their gradients are then summed over the devices once, where layer by layer every array would be by itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx
from jax.flatten_util import ravel_pytree

from flare_jax.layers.sharding import CUT_BY_XLA, on_own_points, splits_evenly
from flare_jax.mixers.flare_attention import FlareAttention
from flare_jax.mixers.synthesized_routing import SynthesizedRouting
from flare_jax.models.flare import FLARE
from flare_jax.models.flarepp import FLAREPP, FLAREWithSynthesis
from flare_jax.params import apply_fn, merge


def apply_on_devices(graphdef: nnx.GraphDef) -> Callable[..., Any]:
    """Return the function of `flare_jax.params.apply_fn` for a model of points, `(params, x, mask, **options)`.

    On a mesh of several devices models whose points meet in gathers alone run on the own points of each of them.
    """
    apply = apply_fn(graphdef)

    def on_devices(params: Mapping[str, Any], x: Any, mask: Any = None, **options: Any) -> Any:
        asked = {name for name, value in options.items() if value is not None} - {"key"}
        if asked or not splits_evenly(x.shape[:2]) or not points_meet_in_gathers(merge(graphdef, params)):
            return apply(params, x, mask, **options)
        vector, unravel = ravel_pytree(dict(params))
        # Without dropout, which such a model has not, the key is of no use.
        return on_own_points(lambda rows, vector: apply(unravel(vector), *rows), (x, mask), vector)

    return on_devices


def points_meet_in_gathers(model: nnx.Module) -> bool:
    """Return whether no point of a model knows of another one but by gathers that merge those of all devices."""
    return type(model) in (FLARE, FLAREPP, FLAREWithSynthesis) and all(_meet(block.att) for block in model.blocks)


def _meet(mixer: FlareAttention | SynthesizedRouting) -> bool:
    random = mixer.attn_drop or mixer.proj_drop
    stored = isinstance(mixer, FlareAttention) and len(mixer.latent_blocks)
    return not (random or stored) and mixer.rope is None and mixer.implementation not in CUT_BY_XLA
