"""The seeds of a run as one surrogate: the mean of their predictions, and their standard deviation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flare_jax.convert.trained import newest_steps, read_trained
from flare_jax.field_codec import Fields, Inputs
from flare_jax.surrogate import Surrogate


def load_ensemble(folder: Path | str, *, step: int | None = None, weights: str | None = None) -> "Ensemble":
    """Return the seeds of the run in `folder` as one; `step` and `weights` are those of `flare_jax.load`.

    Without `step` the seeds whose newest checkpoint is not the newest of all are left out: their training ended early.
    Raises ValueError where there are less than two seeds, or no model of steady fields.
    """
    steps = newest_steps(folder)
    last = max(steps.values(), default=-1)
    seeds = [seed for seed, newest in steps.items() if step is not None or newest == last >= 0]
    if len(seeds) < 2:
        raise ValueError(
            f"{folder} has {len(seeds)} trained seed{'s' if len(seeds) != 1 else ''} of {tuple(steps)}, and a spread "
            "needs two; train with several train.seeds, or predict with one by seed"
        )
    first = Surrogate(read_trained(folder, step, seeds[0], weights))
    others = {seed: first.sharing(read_trained(folder, step, seed, weights)) for seed in seeds[1:]}
    return Ensemble({seeds[0]: first, **others}, tuple(seed for seed in steps if seed not in seeds))


class Ensemble:
    """Surrogates of one run by seed; `left_out` are the seeds that ended early."""

    def __init__(self, members: Mapping[int, Surrogate], left_out: tuple[int, ...] = ()) -> None:
        self.members, self.left_out = dict(members), left_out

    def __repr__(self) -> str:
        return f"Ensemble(seeds {tuple(self.members)} of {next(iter(self.members.values()))!r})"

    @property
    def edge_rows(self) -> int:
        """That of the surrogates."""
        return next(iter(self.members.values())).edge_rows

    def check_pieces(self, points_per_piece: int | None) -> None:
        """Raise ValueError as the surrogates do."""
        next(iter(self.members.values())).check_pieces(points_per_piece)

    def predict(self, points: ArrayLike, inputs: Inputs | None = None, **options: Any) -> tuple[Fields, Fields]:
        """Return mean and sample standard deviation over the seeds of the fields of one cloud of points [N, D].

        Arguments are those of `Surrogate.predict`, and so are errors.
        """
        found = [member.predict(points, inputs, **options) for member in self.members.values()]
        series = {name: np.stack([fields[name] for fields in found]) for name in found[0]}
        means = {name: values.mean(axis=0) for name, values in series.items()}
        return means, {name: values.std(axis=0, ddof=1) for name, values in series.items()}
