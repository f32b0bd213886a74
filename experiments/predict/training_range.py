"""How far a sample is from those that a model was trained on: its values, and the geometry of its points.

A sample is described by a few numbers of its encoded inputs: mean, deviation and extremes of every channel, how they
vary together, and how far points are from their middle. Its distance to the nearest training sample, in units of how
far these are from each other, is that of its geometry; 1 is as far as the farthest of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipeline.dataset import PDEDataset, Split
from experiments.predict.units import named_unit
from flare_jax.field_codec import FieldCodec

_MOST_SAMPLES, _MOST_POINTS = 256, 20_000_000
# Numbers that are kept of all samples, which go into config.json.
_MOST_NUMBERS = 30_000
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
# Descriptions that differ by less, in units of the training's deviation, are the same: that of a mesh of another size.
_SAME = 0.02
# Beyond the extremes of the training by this share of their distance is still as good as within.
_MARGIN = 0.05


@dataclass(frozen=True)
class Judgement:
    """How a sample compares with the training: `score` above 1 is outside, for the `reasons`."""

    score: float
    geometry: float
    reasons: Sequence[str]


@dataclass(frozen=True)
class TrainingRange:
    """Extremes [C] of the encoded channels over all training samples, and descriptions of some of these [S, K].

    `whitening` [K, K] makes descriptions comparable; `unit` is the largest distance of a sample from the next one.
    `extents` are the least and the greatest size of a sample, in units of its coordinates.
    """

    low: Float[np.ndarray, " C"]
    high: Float[np.ndarray, " C"]
    described: Float[np.ndarray, "S K"]
    whitening: Float[np.ndarray, "K K"]
    unit: float
    extents: tuple[float, float]

    @classmethod
    def of(cls, dataset: PDEDataset) -> "TrainingRange":
        """Return the range of the training samples of steady fields, or of the first steps of series."""
        low, high = dataset.input_bounds()
        if dataset.kind == "mesh_series":
            starts = [given_inputs(dataset, dataset.train, case) for case in range(len(dataset.train))]
            low, high = (find([find(one, axis=0) for one in starts], axis=0) for find in (np.min, np.max))
        space, std = dataset.space_dim, np.asarray(dataset.x_normalizer.std, np.float64)[: dataset.space_dim]
        rows = np.random.default_rng(0).permutation(len(dataset.train))
        rows = rows[: min(_MOST_SAMPLES, max(8, _MOST_POINTS // dataset.train.x.shape[1]))]
        samples = [given_inputs(dataset, dataset.train, row) for row in rows]
        described = np.stack([describe(sample, space) for sample in samples])
        described = described[: max(8, _MOST_NUMBERS // described.shape[1])]
        sizes = [float((np.ptp(sample[:, :space], axis=0) * std).max()) for sample in samples]
        whitening = _whitening(described)
        unit = _largest_distance(described, whitening)
        return cls(np.float64(low), np.float64(high), described, whitening, unit, (min(sizes), max(sizes)))

    def to_json(self) -> dict[str, Any]:
        """Return the content for config.json; six digits are enough."""
        return {
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "described": [[float(f"{value:.6g}") for value in row] for row in self.described.tolist()],
            "extents": list(self.extents),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "TrainingRange":
        """Undo `to_json`."""
        described = np.float64(content["described"])
        whitening = _whitening(described)
        unit = _largest_distance(described, whitening)
        bounds = (np.float64(content[name]) for name in ("low", "high"))
        return cls(*bounds, described, whitening, unit, tuple(content["extents"]))

    def judge(self, encoded: Float[np.ndarray, "N C"], codec: FieldCodec) -> Judgement:
        """Compare the inputs of a sample, as `codec` encodes them, with the training."""
        encoded, mean, std = np.asarray(encoded, np.float64), codec.x_mean, codec.x_std
        space = len(codec.axes)
        given = describe(encoded, space)
        geometry = float(np.linalg.norm((self.described - given) @ self.whitening, axis=1).min() / self.unit)
        size = float((np.ptp(encoded[:, :space], axis=0) * std[:space]).max())
        reasons, excess = [], 0.0
        for name, columns in _named(codec).items():
            low, high = encoded[:, columns].min(0), encoded[:, columns].max(0)
            width = np.maximum(self.high[columns] - self.low[columns], _SAME)
            beyond = np.maximum(self.low[columns] - low, high - self.high[columns]) / width
            if beyond.max() <= _MARGIN:
                continue
            excess = max(excess, float(beyond.max()))
            worst = columns.start + int(np.argmax(beyond))
            decoded = [float(v * std[worst] + mean[worst]) for v in (encoded[:, worst].min(), encoded[:, worst].max())]
            known = [float(bounds[worst] * std[worst] + mean[worst]) for bounds in (self.low, self.high)]
            unit = named_unit(name, decoded, known, (size, self.extents) if columns.stop <= space else None)
            reasons.append(f"{name} {_span(decoded)} outside of {_span(known)}{unit}")
        if geometry > 1 + _MARGIN and not reasons:
            reasons.append(
                f"its points are {geometry:.3g} times as far from those of the nearest as training samples are"
            )
        return Judgement(max(geometry, 1 + excess if excess else 0.0), geometry, reasons)


def given_inputs(dataset: PDEDataset, split: Split, case: int) -> Float[np.ndarray, "N C"]:
    """Return what a model is given of a sample, encoded: of series its first state behind the other inputs."""
    real = split.real(case)
    x = np.asarray(split.x[case], np.float64)[real]
    if dataset.kind != "mesh_series":
        return x
    return np.concatenate([x, dataset.y_normalizer.encode(split.y[case][real, 0])], axis=-1)


def describe(encoded: Float[np.ndarray, "N C"], space: int) -> Float[np.ndarray, " K"]:
    """Return the numbers that describe a sample, whose first `space` channels are the coordinates."""
    mean, centred = encoded.mean(0), encoded - encoded.mean(0)
    radii = np.quantile(np.linalg.norm(centred[:, :space], axis=1), _QUANTILES)
    std = centred.std(0)
    rows, columns = np.triu_indices(space, 1, encoded.shape[1])  # coordinates with each other and with inputs
    shared = centred.T @ centred / len(encoded)
    # Covariances as lengths, like the deviations.
    mixed = np.sign(shared[rows, columns]) * np.sqrt(np.abs(shared[rows, columns]))
    return np.concatenate([mean, std, encoded.min(0), encoded.max(0), mixed, radii])


def _whitening(described: Float[np.ndarray, "S K"]) -> Float[np.ndarray, "K K"]:
    """Return the matrix after which descriptions vary alike in all directions, none by less than `_SAME` before."""
    centred = described - described.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred / max(len(described) - 1, 1))
    return directions / np.sqrt(np.maximum(variances, 0) + _SAME**2)


def _largest_distance(described: Float[np.ndarray, "S K"], whitening: Float[np.ndarray, "K K"]) -> float:
    """Return the largest distance of a sample to the nearest other one; of a single one the deviation.

    The nearest is one of other points, where there are any: the steps of a series on one mesh are near each other, but
    say nothing of how far another mesh may be.
    """
    if len(described) < 2:
        return 1.0
    points, radii = described @ whitening, described[:, -len(_QUANTILES) :]
    squares = np.square(points).sum(1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    same = np.abs(radii[:, None] - radii).max(-1) < 1e-4
    np.fill_diagonal(same, True)
    others = np.eye(len(points), dtype=bool) if same.all() else same
    nearest = np.where(others, np.inf, distances).min(1)
    return float(np.sqrt(np.maximum(nearest.max(), 0.0))) or 1.0


def _named(codec: FieldCodec) -> dict[str, slice]:
    """Return the channels of every coordinate and input by what it is called."""
    found = {f"coordinate {'xyz'[axis]}": slice(place, place + 1) for place, axis in enumerate(codec.axes)}
    first = len(codec.axes)
    for name, width in codec.inputs.items():
        found[name], first = slice(first, first + width), first + width
    return found


def _span(pair: Sequence[float]) -> str:
    return f"{pair[0]:.4g}" if pair[0] == pair[1] else f"{pair[0]:.4g} to {pair[1]:.4g}"


def describe_judgements(judgements: Mapping[str, Judgement]) -> str:
    """Return one line of warning for the samples that are outside of the training's range, '' where none is."""
    outside = {name: one for name, one in judgements.items() if one.reasons}
    if not outside:
        return ""
    worst = sorted(outside, key=lambda name: -outside[name].score)
    listed = "; ".join(
        f"{name} (score {outside[name].score:.3g}): {', '.join(outside[name].reasons)}" for name in worst[:3]
    )
    more = f"; and {len(worst) - 3} more" if len(worst) > 3 else ""
    return (
        f"warning: {len(outside)} of {len(judgements)} samples are outside of what the model was trained on, where its "
        f"predictions may be wrong: {listed}{more}"
    )
