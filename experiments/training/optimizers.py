"""Optimizers with the original's parameter groups: weight decay on everything but biases, norms and embeddings.

Groups: `no_decay` by the leaf's path, `latent` for learned latent tokens, `decay` for the rest; with Muon also `muon`
for the hidden matrices: the parameters inside blocks that the model declares as a `flare_jax.params.Matrix`. Latents
are decayed unless `optimizer.decay_latents` is false, which is what the published runs did.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.errors import UserError
from experiments.training.packing import FROZEN, Packing, Params, make_packing
from experiments.training.schedules import Schedule, scaled

OPTIMIZERS = ("adamw", "lion", "muon")

# Leaf names of norms, embeddings and biases; a path component that contains one of the words below is excluded too.
# `proj_matrix` holds the random features of Performer, which are no weights. The latents of FLARE++ stand behind norms:
# decay would not shrink what they do, only raise their learning rate.
_UNDECAYED_LEAVES = (
    "bias",
    "scale",
    "embedding",
    "cls_token",
    "proj_matrix",
    "A_log",
    "skip",
    "init_states",
    "latent_q0",
    "latent_q_fixed",
    "gate_logit",
)
# Convolutions of one channel each, of language models.
_UNDECAYED_CONVOLUTIONS = ("q_conv.kernel", "k_conv.kernel", "v_conv.kernel", "r_conv.kernel")
_UNDECAYED_WORDS = ("embed", "layernorm", "rmsnorm", "cls_token")
_LATENT_LEAVES = ("latent_q", "query", "latents", "latents_read")


def parameter_group(path: str) -> str:
    """Return `decay`, `no_decay` or `latent` for the parameter at dotted `path`."""
    leaf = path.rsplit(".", 1)[-1]
    if leaf in _LATENT_LEAVES:
        return "latent"
    lowered = path.lower()
    # `bias` is matched as a suffix: names such as `dt_bias` are biases as well.
    if path.endswith(_UNDECAYED_CONVOLUTIONS):
        return "no_decay"
    if leaf in _UNDECAYED_LEAVES or leaf.endswith("bias") or any(word in lowered for word in _UNDECAYED_WORDS):
        return "no_decay"
    return "decay"


def muon_group(path: str, matrices: Collection[str]) -> str:
    """Return the group under Muon: of the `matrices`, those inside blocks are orthogonalised if they are decayed."""
    group = parameter_group(path)
    return "muon" if group == "decay" and "block" in path and path in matrices else group


def build_packing(name: str, params: Params, matrices: Collection[str] = (), frozen: Collection[str] = ()) -> Packing:
    """Return the parameter groups that optimizer `name` works on; `matrices` names the parameters that are a matrix.

    Those in `frozen` form a group that is not trained.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer.name={name!r} is not known; choose one of {', '.join(OPTIMIZERS)}")
    if name == "muon":
        labels = {path: FROZEN if path in frozen else muon_group(path, matrices) for path in params}
        if "muon" not in labels.values():
            raise UserError("optimizer.name='muon' finds no matrix inside a block of this model; use adamw")
        return make_packing(params, labels, frozenset({"muon"}))
    return make_packing(params, {path: FROZEN if path in frozen else parameter_group(path) for path in params})


def scheduled_options(optimizer: Any, learning_rate: Schedule, beta1: Schedule | None) -> dict[str, Schedule]:
    """Return the options of config section `optimizer` that change from step to step, by name.

    `beta1`, where given, is that of OneCycle. Muon's matrices have a learning rate of their own, of the same course,
    and their own momentum; beta1 is then that of the other parameters alone, and stays.
    """
    if optimizer.name == "muon":
        ratio = optimizer.muon_learning_rate / optimizer.learning_rate
        return {"learning_rate": learning_rate, "muon_learning_rate": scaled(learning_rate, ratio)}
    return {"learning_rate": learning_rate} | ({} if beta1 is None else {"beta1": beta1})


def peak_rates(optimizer: Any) -> str:
    """Return the learning rates that config section `optimizer` has, as options with their values."""
    names = ("learning_rate", "muon_learning_rate") if optimizer.name == "muon" else ("learning_rate",)
    return " or ".join(f"optimizer.{name}={optimizer[name]:g}" for name in names)


def build_optimizer(
    optimizer: Any, clip_norm: float, schedules: Mapping[str, Schedule], packing: Packing
) -> optax.GradientTransformation:
    """Return clipping followed by the optimizer of config section `optimizer`, acting on packed parameters.

    `schedules`, those of `scheduled_options`, replace options of that section step by step.
    """
    learning_rate, momentum = schedules["learning_rate"], schedules.get("beta1", optimizer.beta1)
    decayed = _decay_mask(packing, optimizer.decay_latents)
    if optimizer.name == "adamw":
        update = _adamw(optimizer, learning_rate, momentum, decayed)
    elif optimizer.name == "lion":
        update = optax.inject_hyperparams(optax.lion, static_args=("mask",))(
            learning_rate, b1=momentum, b2=_beta2(optimizer), weight_decay=optimizer.weight_decay, mask=decayed
        )
    else:
        update = _muon(optimizer, schedules, packing, decayed)
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity()
    return optax.chain(clip, update)


def _beta2(optimizer: Any) -> float:
    """Return beta2, by default the value of the optimizer's own paper."""
    if optimizer.beta2 is not None:
        return optimizer.beta2
    return 0.99 if optimizer.name == "lion" else 0.999


def _decay_mask(packing: Packing, decay_latents: bool) -> dict[str, Any]:
    decayed = {"decay", "muon"} | ({"latent"} if decay_latents else set())
    return {group: group in decayed for group in packing.groups}


def _adamw(optimizer: Any, learning_rate: Any, beta1: Any, decayed: Mapping[str, bool]) -> optax.GradientTransformation:
    return optax.inject_hyperparams(optax.adamw, static_args=("mask",))(
        learning_rate,
        b1=beta1,
        b2=_beta2(optimizer),
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        mask=dict(decayed),
    )


def _muon(
    optimizer: Any, schedules: Mapping[str, Schedule], packing: Packing, decayed: Mapping[str, bool]
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) on block matrices, AdamW on the rest, both on the same schedule shape."""
    rest = {group: flag and group != "muon" for group, flag in decayed.items()}
    matrices = optax.contrib.muon(
        schedules["muon_learning_rate"],
        beta=optimizer.muon_momentum,
        weight_decay=optimizer.weight_decay,
        muon_weight_dimension_numbers=_matrix_axes,
    )
    labels = {group: "muon" if group == "muon" else "adamw" for group in packing.groups}
    adamw = _adamw(optimizer, schedules["learning_rate"], optimizer.beta1, rest)
    return optax.partition({"muon": matrices, "adamw": adamw}, labels)


def _matrix_axes(params: Any) -> Any:
    """Stacks of kernels are [n, in, out]; of a convolution's [n, kh, kw, in, out] each is a matrix (kh·kw·in) × out."""
    return jax.tree.map(
        lambda value: optax.contrib.MuonDimensionNumbers(tuple(range(1, jnp.ndim(value) - 1)), jnp.ndim(value) - 1),
        params,
    )
