"""Deep supervision and halting of the tiny recursive model (arXiv 2510.04871).

Training presents each batch `num_steps` times in a row: every presentation is one deep recursion from the state that
the one before it left (the first from `initial_state`), the loss of its logits, with a weight also `halting_loss`, and
one optimizer update. After the last the state is dropped. The original trains without the halting loss and always takes
all steps.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flare_jax.models.sequence.trm import Recursion, RecursionState, TinyRecursiveModel

IGNORE_INDEX = -100


def halting_loss(
    recursion: Recursion, labels: Int[Array, "B *N"], *, ignore_index: int = IGNORE_INDEX
) -> Float[Array, ""]:
    """Return the mean binary cross-entropy of the halting logits with whether the sample's answer is right.

    No gradient flows through the answer.
    """
    targets = correct_answers(recursion.logits, labels, ignore_index=ignore_index)
    halt_logits = recursion.halt_logits[:, 0]
    return jnp.mean(jax.nn.softplus(halt_logits) - targets * halt_logits)


def correct_answers(
    logits: Float[Array, "B *N C"], labels: Int[Array, "B *N"], *, ignore_index: int = IGNORE_INDEX
) -> Bool[Array, "B"]:
    """Return which samples have every label right, those with `ignore_index` aside.

    A single logit means class 1 where it is positive.
    """
    predictions = logits[..., 0] > 0 if logits.shape[-1] == 1 else jnp.argmax(logits, axis=-1)
    right = (predictions == labels) | (labels == ignore_index)
    return right.reshape(len(right), -1).all(-1)


def predict_until_halt(
    model: TinyRecursiveModel, input_ids: Int[Array, "B N"], mask: Bool[Array, "B N"] | None = None
) -> tuple[Float[Array, "B *N C"], Int[Array, "B"]]:
    """Return the logits of each sample at the step where its halting logit first is positive, and that step from 1.

    A sample that never halts has the logits of step `num_steps`. The loop ends when all samples have halted. There are
    no gradients; the halting head has to be trained with a `halt_weight` above 0.
    """
    first = model.deep_recursion(input_ids, model.initial_state(input_ids), mask)
    samples = len(input_ids)

    def unfinished(carry: tuple) -> Array:
        step, _, _, halted, _ = carry
        return (step < model.num_steps) & ~halted.all()

    def advance(carry: tuple) -> tuple:
        step, state, logits, halted, steps = carry
        recursion = model.deep_recursion(input_ids, RecursionState(*state), mask)
        running = ~halted
        keep = running.reshape(samples, *[1] * (logits.ndim - 1))
        logits = jnp.where(keep, recursion.logits, logits)
        halted = halted | (recursion.halt_logits[:, 0] > 0)
        return step + 1, tuple(recursion.state), logits, halted, steps + running

    start = (1, tuple(first.state), first.logits, first.halt_logits[:, 0] > 0, jnp.ones(samples, int))
    _, _, logits, _, steps = jax.lax.while_loop(unfinished, advance, start)
    return logits, steps
