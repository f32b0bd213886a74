"""Sizes of the models in the published comparison of FLARE (arXiv 2508.12594), by model type and data set.

Those of FLARE, and of FLARE++ and its rivals (arXiv 2608.11519), are the settings of the comparison runs, those of the
others the recipes of the original's command line
(`use_defaults`), which it applies after writing its config, so that converting its checkpoints needs them too.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flare_jax.checks import check_choice

# (num_latents, num_heads) of FLARE.
_FLARE_LATENTS = {
    "elasticity": (64, 8),
    "darcy": (256, 16),
    "airfoil_steady": (256, 8),
    "pipe": (128, 8),
    "drivaerml": (256, 8),
    "lpbf": (128, 8),
}
_WIDE_SLICES = ("airfrans", "shapenet_car", "navier_stokes")


def published_options(model_type: str, dataset: str) -> dict[str, Any]:
    """Return the options of `model_type` that the published run on `dataset` had; raises ValueError if there is none.

    `dataset` is a name of the original, where `drivaerml_<n>` stands for every number of points.
    """
    check_choice("model_type", model_type, _SIZES)
    return _SIZES[model_type]("drivaerml" if dataset.startswith("drivaerml_") else dataset)


def has_published_options(model_type: str) -> bool:
    """Tell whether `published_options` knows the model type."""
    return model_type in _SIZES


def _flare(dataset: str) -> dict[str, Any]:
    check_choice("dataset", dataset, _FLARE_LATENTS)
    latents, heads = _FLARE_LATENTS[dataset]
    return {"channel_dim": 64, "num_blocks": 8, "num_heads": heads, "num_latents": latents}


def _slices(dataset: str) -> dict[str, Any]:
    width, slices = (256, 32) if dataset in _WIDE_SLICES else (128, 64)
    return {"channel_dim": width, "num_blocks": 8, "num_heads": 8, "num_slices": slices, "mlp_ratio": 1.0}


def _transolver_plus_plus(dataset: str) -> dict[str, Any]:
    return {"channel_dim": 128, "num_blocks": 8, "num_heads": 8, "num_slices": 64, "mlp_ratio": 1.0}


def _lno(dataset: str) -> dict[str, Any]:
    width, layers = (192, 3) if dataset == "elasticity" else (128, 2)
    blocks = 8 if dataset in ("pipe", "airfoil_steady") else 4
    return {"channel_dim": width, "num_blocks": blocks, "num_heads": 8, "num_modes": 256, "num_layers_mlp": layers}


def _gnot(dataset: str) -> dict[str, Any]:
    return {"channel_dim": 128, "num_blocks": 8, "num_heads": 8, "num_experts": 3, "mlp_ratio": 2.0}


def _perceiverio(dataset: str) -> dict[str, Any]:
    return {"channel_dim": 128, "num_blocks": 8, "num_heads": 8, "num_latents": 512, "mlp_ratio": 4.0, "act": None}


def _transformer(dataset: str) -> dict[str, Any]:
    sizes = {"channel_dim": 80, "num_blocks": 8, "num_heads": 5, "mlp_ratio": 4.0}
    return sizes | {"rmsnorm": False, "out_proj_norm": True, "num_layers_in_out_proj": 2}


# (num_blocks, num_latents) of the comparison of FLARE++ (arXiv 2608.11519), the same for all its mixers.
_FLAREPP_SIZES = {
    "elasticity": (8, 64),
    "darcy": (8, 128),
    "airfoil_steady": (8, 64),
    "pipe": (2, 64),
    "drivaerml": (4, 64),
    "lpbf": (2, 64),
}


def _flarepp(dataset: str) -> dict[str, Any]:
    check_choice("dataset", dataset, _FLAREPP_SIZES)
    blocks, latents = _FLAREPP_SIZES[dataset]
    sizes = {"channel_dim": 128, "num_blocks": blocks, "num_heads": 8, "num_latents": latents}
    return sizes | {"num_layers_ffn": 0, "ffn_mlp_ratio": 2.0}


def _flarepp_softmax(dataset: str) -> dict[str, Any]:
    return {name: value for name, value in _flarepp(dataset).items() if name != "num_latents"}


_SIZES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "flare": _flare,
    "flare_experimental": _flare,
    "flare_ablations": _flare,
    "transolver": _slices,
    "transolver++": _transolver_plus_plus,
    "lamo": _slices,
    "lno": _lno,
    "gnot": _gnot,
    "perceiverio": _perceiverio,
    "transformer": _transformer,
    "flare_pp": _flare,
    "flarepp": _flarepp,
    "luna": _flarepp,
    "set_transformer": _flarepp,
    "backbone_mha": _flarepp_softmax,
    **{f"backbone_{kind}": _flarepp for kind in ("flare", "simplifiedflarepp", "flarepp", "flarepp_ablations")},
    **{f"backbone_{kind}": _flarepp for kind in ("transolver", "transolverpp", "transolver3")},
}
