"""What is wrong with the samples of a user's data set as a whole: nothing to predict, and copies in several splits."""

from collections.abc import Mapping, Sequence

import numpy as np

from data_pipeline.custom.in_memory import SamplesInMemory
from data_pipeline.custom.readers import Reference
from data_pipeline.errors import DataError
from data_pipeline.streaming.cache import Cache

# Samples of one set differ in size, but by less than units do.
_STRANGE_EXTENT = 50.0


def without_zero_samples(
    arrays: SamplesInMemory | Cache, rows: Mapping[str, np.ndarray], references: Sequence[Reference]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the rows of the samples whose targets are not zero everywhere, and a note on the others."""
    kept, left_out = {}, []
    for name, chosen in rows.items():
        extremes = [arrays.moments(np.array([row]), "y") for row in chosen]
        known = np.array([(one.low != 0).any() or (one.high != 0).any() for one in extremes])
        if not known.any():
            raise DataError(
                f"the targets of all samples in {name} are zero, the first {references[chosen[0]]}; check data.targets"
            )
        kept[name] = chosen[known]
        left_out += [str(references[row]) for row in chosen[~known]]
    some = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
    note = f"samples whose targets are zero everywhere have no relative error; left out are {len(left_out)}: {some}"
    return kept, [note] if left_out else []


def duplicate_notes(
    arrays: SamplesInMemory | Cache, rows: Mapping[str, np.ndarray], references: Sequence[Reference]
) -> list[str]:
    """Return a note on the samples that are in two splits at once, also where their points are in another order."""
    seen: dict[bytes, list[tuple[str, int]]] = {}
    pairs = []
    for split in sorted(rows, key=lambda name: (name != "train", name)):
        for row in rows[split]:
            others = seen.setdefault(_extremes(arrays, row), [])
            found = next((one for one in others if one[0] != split and _same(arrays, row, one[1])), None)
            if found is not None:
                pairs.append(f"{references[row]} of {split} is {references[found[1]]} of {found[0]}")
            others.append((split, int(row)))
    some = "; ".join(pairs[:3]) + ("; ..." if len(pairs) > 3 else "")
    which = "1 sample is" if len(pairs) == 1 else f"{len(pairs)} samples are"
    problem = f"{which} in two splits, so that errors there say nothing of new samples: {some}"
    return [problem] if pairs else []


def extent_notes(
    arrays: SamplesInMemory | Cache, rows: Mapping[str, np.ndarray], references: Sequence[Reference], space: int
) -> list[str]:
    """Return a note on samples of which the points extend much farther, or less, than those of the usual one."""
    every = np.concatenate(list(rows.values()))
    found = [arrays.moments(np.array([row]), "x") for row in every]
    extents = np.array([(one.high - one.low)[:space].max() for one in found])
    usual = float(np.median(extents))
    ratios = extents / usual if usual else np.ones(len(extents))
    strange = np.flatnonzero((ratios > _STRANGE_EXTENT) | (ratios < 1 / _STRANGE_EXTENT))
    some = ", ".join(f"{references[every[at]]} {ratios[at]:.3g} times" for at in strange[:3])
    more = ", ..." if len(strange) > 3 else ""
    note = (
        f"extents far from that of the usual sample, {usual:.3g}, are often a mistake of units (mm for m): {some}{more}"
    )
    return [note] if len(strange) else []


def constant_notes(
    arrays: SamplesInMemory | Cache, rows: Mapping[str, np.ndarray], targets: Mapping[str, int]
) -> list[str]:
    """Return a note on targets that are the same at all training points; raises DataError where all are."""
    moments = arrays.moments(rows["train"], "y")
    varies = np.split(moments.std > moments.round_off, np.cumsum(list(targets.values()))[:-1])
    same = [name for name, one in zip(targets, varies, strict=True) if not one.any()]
    if len(same) == len(targets):
        raise DataError(
            f"the targets {', '.join(same)} are the same at all training points, so that there is nothing to learn; "
            "check data.targets"
        )
    return [f"the same at all training points, so that nothing is learned of them: {', '.join(same)}"] if same else []


def _extremes(arrays: SamplesInMemory | Cache, row: int) -> bytes:
    """Return the number of points and the least and greatest values, which do not depend on the order of the points."""
    found = [arrays.moments(np.array([row]), name) for name in ("x", "y")]
    return b"".join(
        [str(arrays.count(row)).encode(), *(part.tobytes() for one in found for part in (one.low, one.high))]
    )


def _same(arrays: SamplesInMemory | Cache, row: int, other: int) -> bool:
    """Return whether two samples have the same points, whatever their order."""

    def ordered(number: int) -> np.ndarray:
        points = np.concatenate([arrays.array(number, "x"), arrays.array(number, "y")], axis=-1)
        return points[np.lexsort(points.T)]

    return np.array_equal(ordered(row), ordered(other))
