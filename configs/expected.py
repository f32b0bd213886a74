"""What a named experiment is expected to give, as data: `python -m configs` lists it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A measured result: `metric` (its name in eval.json) has `value` after `seconds` from start to report on `device`.

    `data` says on which data, `options` what was given beside --config; `seconds` is None where only the value was
    recorded, `step_ms` the time of a training step. Where only that was measured, there is neither metric nor data.
    """

    device: str
    metric: str | None = None
    value: float | None = None
    data: str | None = None
    seconds: float | None = None
    step_ms: float | None = None
    options: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the result as one phrase."""
        times = [] if self.step_ms is None else [f"{self.step_ms:g} ms per step"]
        if self.seconds is not None:
            times.append(f"{self.seconds / 60:.0f} min" if self.seconds >= 90 else f"{self.seconds:.0f} s")
        given = f" with {' '.join(self.options)}" if self.options else ""
        result = "error not measured" if self.metric is None else f"{self.metric} {self.value:.3g} on {self.data} data"
        return f"{result}{given}; {', '.join(times)} on one {self.device}"
