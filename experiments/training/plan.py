"""How long a run is and where it stops to evaluate and to checkpoint, as a pure function of the configuration.

The stops are the same whether or not the run is interrupted, so a resumed run compiles and computes the same chunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import UserError

_MOST_STEPS = 2**31 - 1  # they are counted with 32 bits


@dataclass(frozen=True)
class Plan:
    """All lengths in optimizer steps."""

    steps: int
    steps_per_epoch: int
    eval_every: int
    checkpoint_every: int

    def next_stop(self, step: int) -> int:
        """Return the end of the chunk that begins at `step`: an epoch's end, an evaluation, a checkpoint or the end."""
        periods = (self.steps_per_epoch, self.eval_every, self.checkpoint_every)
        return min(self.steps, *(step - step % period + period for period in periods))

    def evaluates(self, step: int) -> bool:
        """Return whether the test set is evaluated after `step` steps."""
        return step % self.eval_every == 0 or step == self.steps

    def evaluates_training(self, step: int) -> bool:
        """Return whether this evaluation is one of the ten or so that measure the error on training samples too."""
        previous = (step - 1) // self.eval_every * self.eval_every
        return self.evaluates(step) and 10 * step // self.steps > 10 * previous // self.steps

    def saves(self, step: int) -> bool:
        """Return whether a checkpoint is written after `step` steps; evaluated states are always kept."""
        return step % self.checkpoint_every == 0 or self.evaluates(step)


def make_plan(config: Any, num_train: int | Sequence[int], repeats: int = 1) -> Plan:
    """Return the plan of `config` (sections train, eval, checkpoint) for `num_train` samples; raises UserError.

    Several numbers are those of groups that do not share batches; the last incomplete batch of each is left out.
    Few samples get more epochs than `train.epochs`, as many as make `train.min_steps` optimizer steps.
    With `repeats`, every batch gets so many optimizer steps, which no stop separates; the configured steps and cadences
    count batches.
    """
    train = config.train
    used = train.batch_size * train.accumulation
    groups = [num_train] if isinstance(num_train, int) else list(num_train)
    if max(groups) < used:
        raise UserError(
            f"one optimizer step needs train.batch_size={train.batch_size} times "
            f"train.accumulation={train.accumulation} samples, but there are {_listed(groups)}; lower them"
        )
    steps_per_epoch = sum(count // used for count in groups) * repeats
    if (train.epochs > 0) == (train.steps > 0):
        raise UserError(
            f"train.epochs={train.epochs} and train.steps={train.steps}: exactly one of them must be positive; "
            "set the other to 0"
        )
    epochs = max(train.epochs, -(-train.min_steps // steps_per_epoch))
    length, unit = (epochs, steps_per_epoch) if train.epochs else (train.steps, repeats)
    if length * unit > _MOST_STEPS:
        name = "train.epochs" if train.epochs else "train.steps"
        raise UserError(f"{name}={length} makes {length * unit} optimizer steps, more than {_MOST_STEPS}; lower it")
    return Plan(
        steps=length * unit,
        steps_per_epoch=steps_per_epoch,
        eval_every=unit * (config.eval.every or max(1, length // 10)),
        checkpoint_every=unit * (config.checkpoint.every or max(1, length // 50)),
    )


def _listed(groups: Sequence[int]) -> str:
    return str(groups[0]) if len(groups) == 1 else f"groups of {', '.join(map(str, groups))}"
