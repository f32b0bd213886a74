"""Checkpoints on Orbax: asynchronous, the last few and the best kept, verified when read.

A checkpoint holds the parameters, their average, the optimizer state, the step and the random key, beside a record with
the configuration and a hash of all arrays. A checkpoint that cannot be read, or whose hash differs, is reported and the
previous one is used; nothing is ever half loaded.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from experiments.errors import UserError
from experiments.training.packing import Packing
from experiments.training.state import TrainState
from flare_jax.params import digest

FORMAT = 1


class Checkpoints:
    """The checkpoints of one run, in `directory`; `metric` names the recorded number by which the best are kept.

    `config` is stored beside every state; the rest of the run's record is in its workdir.
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
        read_only: bool = False,
    ) -> None:
        self.directory = directory.absolute()
        self._config = config
        self._packing = packing
        # Ranked upwards and the last n kept, so the smallest error comes last with a minus sign.
        sign = 1.0 if higher_is_better else -1.0
        self._manager = _open_manager(
            self.directory, keep_last, keep_best, lambda metrics: sign * metrics[metric], read_only
        )

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, step: int, metrics: dict[str, float] | None) -> None:
        """Begin to write `state`; `metrics` ranks it among the best. Raises UserError if an earlier write failed."""
        tree = _to_saved(state, self._packing)
        self._check_space(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
        record = {
            "format": FORMAT,
            "digest": digest(tree),
            # By which the weights alone can be checked without knowing the optimizer's structure.
            "weights_digest": digest({name: tree[name] for name in ("params", "ema")}),
            "metrics": metrics,
            "config": self._config,
        }
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(record))
        self._guard(lambda: self._manager.save(step, args=items, metrics=metrics))

    def wait(self) -> None:
        """Wait until everything is on disk; raises UserError if a write failed."""
        self._guard(self._manager.wait_until_finished)

    def close(self) -> None:
        """End the writing threads; a failed write is what `wait` reports, so it is not raised once more here."""
        with contextlib.suppress(Exception):
            self._manager.close()

    def restore(self, template: TrainState, step: int) -> TrainState:
        """Return the state saved at `step` with the placement of `template`; raises UserError if it is unreadable."""
        abstract = jax.tree.map(_abstract, _to_saved(template, self._packing))
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), record=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=items)
        except Exception as error:  # Orbax and TensorStore raise many types for damaged files
            raise UserError(f"checkpoint {self.directory / str(step)} cannot be read ({_reason(error)})") from error
        if digest(restored["state"]) != restored["record"].get("digest"):
            raise UserError(
                f"checkpoint {self.directory / str(step)} does not match its own hash, so its files changed"
            )
        return _from_saved(restored["state"], self._packing)

    def restore_latest(self, template: TrainState, say: Callable[[str], None]) -> TrainState | None:
        """Return the newest readable state, reporting unreadable ones; None without checkpoints.

        Raises UserError where checkpoints exist and none is readable.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.restore(template, step)
            except UserError as error:
                say(f"warning: {error}; trying the previous one")
        if steps:
            raise UserError(
                f"none of the checkpoints {steps} in {self.directory} is readable; start in another workdir"
            )
        return None

    def drop_after(self, step: int) -> None:
        """Set aside checkpoints newer than `step` (unreadable ones), so that their steps can be written again."""
        newer = [other for other in self.steps() if other > step]
        for other in newer:
            aside = self.directory.parent / "unreadable_checkpoints"
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / str(other), ignore_errors=True)
            shutil.move(self.directory / str(other), aside / str(other))
        if newer:
            self._manager.reload()

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


def _open_manager(
    directory: Path, keep_last: int, keep_best: int, rank: Callable[[dict[str, float]], float], read_only: bool
) -> ocp.CheckpointManager:
    policies = [checkpoint_managers.LatestN(keep_last)]
    if keep_best:
        best = checkpoint_managers.BestN(
            get_metric_fn=rank,
            n=keep_best,
            keep_checkpoints_without_metrics=False,
        )
        policies.append(best)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        create=not read_only,
        # Every requested save happens: the default policy would skip one while another is in flight.
        save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
        enable_async_checkpointing=not read_only,
    )
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add("state", ocp.args.StandardSave, ocp.StandardCheckpointHandler())
    handlers.add("state", ocp.args.StandardRestore, ocp.StandardCheckpointHandler())
    handlers.add("record", ocp.args.JsonSave, ocp.JsonCheckpointHandler())
    handlers.add("record", ocp.args.JsonRestore, ocp.JsonCheckpointHandler())
    return ocp.CheckpointManager(directory, options=options, handler_registry=handlers)


def _to_saved(state: TrainState, packing: Packing) -> dict[str, Any]:
    """Parameters are saved under their own names, so that a checkpoint can be read without this code's packing."""
    return {
        "step": state.step,
        "params": packing.unpack(state.params),
        "ema": packing.unpack(state.ema) if state.ema else {},
        "opt_state": state.opt_state,
        "key": jax.random.key_data(state.key),
    }


def _from_saved(saved: dict[str, Any], packing: Packing) -> TrainState:
    return TrainState(
        step=saved["step"],
        params=packing.pack(saved["params"]),
        ema=packing.pack(saved["ema"]) if saved["ema"] else {},
        opt_state=saved["opt_state"],
        key=jax.random.wrap_key_data(saved["key"]),
    )


def _abstract(value: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=value.sharding)


_CAUSES = ("No space left on device", "File too large", "Disk quota exceeded", "Read-only file system")


def _reason(error: BaseException) -> str:
    """Return the system's own words where the message holds them, else its first line, cut at 200 characters."""
    text = str(error).strip() or type(error).__name__
    return next((cause for cause in _CAUSES if cause in text), text.splitlines()[0][:200])
