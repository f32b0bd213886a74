"""Checkpoints on Orbax: asynchronous, the last few and the best kept, verified when read.

A checkpoint holds the parameters, their average, the optimizer state, the step and the random key, beside a record with
the configuration and a hash of all arrays. A checkpoint that cannot be read, or whose hash differs, is reported and the
previous one is used; nothing is ever half loaded.
"""

import contextlib
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from experiments.errors import NotFiniteError, UserError
from experiments.training.packing import Packing
from experiments.training.saved_state import abstract, fetched, from_saved
from experiments.training.state import TrainState
from flare_jax.convert.checkpoints import (
    RECORD,
    STATE,
    OtherStateError,
    checkpoint_steps,
    make_record,
    read_record,
    read_state,
    read_weights,
)
from runtime.json_files import finite

# Of a checkpoint that was made because the program was asked to end, in its record.
_INTERIM = "interim"


class SavedCheckpoints:
    """The checkpoints of one run in `directory`, for reading."""

    def __init__(self, directory: Path, packing: Packing) -> None:
        self.directory = directory.absolute()
        self._packing = packing

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, oldest first."""
        return checkpoint_steps(self.directory)

    def metric(self, step: int, name: str) -> float | None:
        """Return the number `name` by which a checkpoint was ranked, None where it was not."""
        try:
            value = (read_record(self.directory / str(step)).get("metrics") or {}).get(name)
        except ValueError:
            return None
        return value if isinstance(value, int | float) and math.isfinite(value) else None

    def restore(self, template: TrainState, step: int) -> TrainState:
        """Return the state saved at `step` with the placement of `template`.

        Raises UserError if it is unreadable, OtherStateError, which is none, if it is not like `template`.
        """
        try:
            saved = read_state(self.directory / str(step), abstract(template, self._packing))
        except OtherStateError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from error
        if int(saved["step"]) != step:
            raise UserError(f"checkpoint {self.directory / str(step)} holds step {int(saved['step'])}; it was renamed")
        return from_saved(saved, self._packing, template.step.sharding)

    def restore_weights(self, template: TrainState, step: int) -> TrainState:
        """Return the weights saved at `step`, like those of `template`, as a state without that of an optimizer."""
        saved = read_weights(self.directory / str(step))
        tree = {"step": np.int32(step), **saved, "opt_state": (), "key": jax.random.key_data(jax.random.key(0))}
        return from_saved(tree, self._packing, template.step.sharding)

    def restore_latest(self, template: TrainState, say: Callable[[str], None]) -> TrainState | None:
        """Return the newest readable state, reporting unreadable ones; None without checkpoints.

        Raises UserError where checkpoints exist and none is readable, OtherStateError at one of another structure: it
        is not damaged, so that an older one does not take its place.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.restore(template, step)
            except UserError as error:
                if step == steps[0]:
                    raise UserError(
                        f"none of the checkpoints {steps} in {self.directory} is readable, the first since {error}; "
                        "start in another workdir"
                    ) from error
                say(f"warning: {error}; trying the previous one")
        return None


class Checkpoints(SavedCheckpoints):
    """The checkpoints of one run, in `directory`; `metric` names the recorded number by which the best are kept.

    The last `keep_last` are kept and the `keep_best` best, as their records say, whichever process wrote them; a number
    that is not finite is never among the best. `config` is stored beside every state; the rest of the run's record is
    in its workdir.
    """

    def __init__(
        self,
        directory: Path,
        packing: Packing,
        *,
        keep_last: int,
        keep_best: int,
        metric: str,
        higher_is_better: bool = False,
        config: dict[str, Any],
    ) -> None:
        super().__init__(directory, packing)
        self._config, self._metric = config, metric
        self._keep_last, self._keep_best = keep_last, keep_best
        self._sign = 1.0 if higher_is_better else -1.0
        self._records = {step: self._stored_record(step) for step in self.steps()}
        self._manager = _open_manager(self.directory, self)

    def save(self, state: TrainState, step: int, metrics: dict[str, float] | None, interim: bool = False) -> None:
        """Begin to write `state`; `metrics` ranks it among the best.

        An `interim` checkpoint is one that the plan has not: it is kept until the next one, and takes no other's place.
        Raises NotFiniteError if the state is not finite, UserError if an earlier write failed.
        """
        tree = fetched(state, self._packing)
        self._check_finite(tree, step)
        self._check_space(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
        record = finite(make_record(tree, metrics, self._config)) | ({_INTERIM: True} if interim else {})
        self._records[step] = record
        items = ocp.args.Composite(**{STATE: ocp.args.StandardSave(tree), RECORD: ocp.args.JsonSave(record)})
        self._guard(lambda: self._manager.save(step, args=items))

    def wait(self) -> None:
        """Wait until everything is on disk; raises UserError if a write failed."""
        self._guard(self._manager.wait_until_finished)

    def close(self) -> None:
        """End the writing threads; a failed write is what `wait` reports, so it is not raised once more here."""
        with contextlib.suppress(Exception):
            self._manager.close()

    def drop_after(self, step: int) -> None:
        """Set aside checkpoints newer than `step` (unreadable ones), so that their steps can be written again."""
        newer = [other for other in self.steps() if other > step]
        for other in newer:
            aside = self.directory.parent / "unreadable_checkpoints"
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / str(other), ignore_errors=True)
            shutil.move(self.directory / str(other), aside / str(other))
            del self._records[other]
        if newer:
            self._manager.reload()

    def prune(self) -> None:
        """Remove what a run that was killed would have removed after its last save."""
        steps = self.steps()
        for step in set(steps) - self._kept(steps):
            self._manager.delete(step)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Say for each checkpoint whether it is kept: Orbax asks this whenever it has written one."""
        del context
        kept = self._kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def _kept(self, steps: Sequence[int]) -> set[int]:
        planned = [step for step in steps if not self._records[step].get(_INTERIM)]
        ranks = {step: self._rank(self._records[step]) for step in planned}
        ranked = sorted((rank, step) for step, rank in ranks.items() if rank is not None)
        best = [step for _, step in ranked[len(ranked) - self._keep_best :]] if self._keep_best else []
        return {*steps[-1:], *planned[-self._keep_last :], *best}

    def _rank(self, record: dict[str, Any]) -> float | None:
        """Return a number that is larger for better checkpoints, None where there is nothing to compare."""
        value = (record.get("metrics") or {}).get(self._metric)
        return self._sign * value if isinstance(value, int | float) and math.isfinite(value) else None

    def _stored_record(self, step: int) -> dict[str, Any]:
        try:
            return read_record(self.directory / str(step))
        except ValueError:
            return {}  # reported when its state is wanted

    def _check_finite(self, tree: dict[str, Any], step: int) -> None:
        for path, value in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if jax.numpy.issubdtype(value.dtype, np.inexact) and not np.isfinite(jax.device_get(value)).all():
                self.wait()
                kept = self.steps()
                rest = f"the checkpoint of step {kept[-1]} is kept" if kept else "no checkpoint was written"
                raise NotFiniteError(
                    f"the state after step {step} is not finite ({jax.tree_util.keystr(path)} holds NaN or infinity), "
                    f"so it is not saved; {rest}; lower the learning rate, or check optimizer.* and schedule.*, and "
                    "start in another workdir"
                )

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < 2 * needed:
            raise UserError(
                f"the disk of {self.directory} has {free / 2**20:.0f} MiB left, too little for a checkpoint of "
                f"{needed / 2**20:.0f} MiB; free space and run the same command again to resume"
            )

    def _guard(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"a checkpoint could not be written to {self.directory} ({_reason(error)}); free space or make the "
                "folder writable, and run the same command again to resume from the last complete one"
            ) from error


def _open_manager(directory: Path, preservation: Any) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        preservation_policy=preservation,
        cleanup_tmp_directories=True,
        # Every requested save happens: the default policy would skip one while another is in flight.
        save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
    )
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add(STATE, ocp.args.StandardSave, ocp.StandardCheckpointHandler())
    handlers.add(RECORD, ocp.args.JsonSave, ocp.JsonCheckpointHandler())

    def open_once() -> ocp.CheckpointManager:
        return ocp.CheckpointManager(directory, options=options, handler_registry=handlers)

    try:
        return open_once()
    except (ValueError, TypeError, AttributeError, RecursionError):
        # Orbax's own notes of a checkpoint are damaged. They say when it was written and by which classes; ours are in
        # its record, and its arrays are verified by their hash, so it is as good without them.
        for notes in directory.glob("*/_CHECKPOINT_METADATA"):
            notes.unlink()
        return open_once()


_CAUSES = ("No space left on device", "File too large", "Disk quota exceeded", "Read-only file system")


def _reason(error: BaseException) -> str:
    """Return the system's own words where the message holds them, else its first line, cut at 200 characters."""
    text = str(error).strip() or type(error).__name__
    return next((cause for cause in _CAUSES if cause in text), text.splitlines()[0][:200])
