"""Statistics of parts, the published criteria by which parts are kept, and tables of both."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from data_pipeline.additive.case import FinalCase
from data_pipeline.additive.graph import aspect_ratios
from data_pipeline.errors import DataError

# Published names; max_disp is the largest signed displacement along z, which max_abs_disp_z completes.
STATISTICS = (
    *("num_vertices", "num_edges", "avg_aspect_ratio", "max_aspect_ratio"),
    *("max_z", "max_disp", "max_vmstr", "edges_per_vert", "max_abs_disp_z"),
)
# A part is kept when none of its statistics exceeds its limit.
LIMITS: Mapping[str, float] = {
    "num_vertices": 5e4,
    "num_edges": 2.5e5,
    "avg_aspect_ratio": 3.0,
    "max_aspect_ratio": 3.0,
    "max_disp": 1.0,
    "max_vmstr": 2000.0,
}
_QUANTILES = ((25, "25%"), (50, "50%"), (75, "75%"))


def statistics_of(case: FinalCase) -> dict[str, float]:
    """Return the `STATISTICS` of one part; lengths in mm, stress in MPa."""
    ratios = aspect_ratios(case.pos, case.elems)
    count, directed = len(case.pos), case.edge_index.shape[1]
    return {
        "num_vertices": count,
        "num_edges": directed,
        "avg_aspect_ratio": float(ratios.mean()),
        "max_aspect_ratio": float(ratios.max()),
        "max_z": float(case.pos[:, 2].max()),
        "max_disp": float(case.disp[:, 2].max()),
        "max_vmstr": float(case.vmstr.max()),
        "edges_per_vert": directed / count,
        "max_abs_disp_z": float(np.abs(case.disp[:, 2]).max()),
    }


def keep(table: Mapping[str, np.ndarray], limits: Mapping[str, float] = LIMITS) -> Bool[np.ndarray, " S"]:
    """Return which parts have no statistic above its limit; equality keeps. Raises DataError for unknown names."""
    missing = [name for name in limits if name not in table]
    if missing:
        raise DataError(f"the statistics {missing} are not in the table, which has {sorted(table)}; check the limits")
    columns = [np.asarray(table[name], np.float64) <= limit for name, limit in limits.items()]
    return np.all(columns, axis=0) if columns else np.ones(len(next(iter(table.values()))), bool)


def as_csv(names: Sequence[str], table: Mapping[str, np.ndarray]) -> str:
    """Return a table with one row per part, its name first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *table])
    for row, name in enumerate(names):
        writer.writerow([name, *(f"{values[row]:.9g}" for values in table.values())])
    return text.getvalue()


def from_csv(text: str, where: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return names and columns of such a table; raises DataError, which names the file `where`."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows or rows[0][:1] != ["case"] or len(rows) < 2:
        raise DataError(f"{where} is no table of statistics with a first column 'case'; write it with `statistics`")
    head, body = rows[0], rows[1:]
    try:
        values = np.array([[float(value) for value in row[1:]] for row in body]).reshape(len(body), len(head) - 1)
    except ValueError as error:
        raise DataError(
            f"{where} cannot be read as a table of numbers ({error}); write it with `statistics`"
        ) from error
    return [row[0] for row in body], dict(zip(head[1:], values.T, strict=True))


def description(table: Mapping[str, np.ndarray]) -> str:
    """Return count, mean, standard deviation, extremes and quartiles of every column as lines of text."""
    rows = {name: _summary(np.asarray(values, np.float64)) for name, values in table.items()}
    keys = list(next(iter(rows.values())))
    width = max(12, *(len(name) + 2 for name in rows))
    lines = [" " * 8 + "".join(name.rjust(width) for name in rows)]
    lines += [key.ljust(8) + "".join(f"{row[key]:.6g}".rjust(width) for row in rows.values()) for key in keys]
    return "\n".join(lines) + "\n"


def _summary(values: np.ndarray) -> dict[str, float]:
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return {
        "count": len(values),
        "mean": float(values.mean()),
        "std": deviation,
        "min": float(values.min()),
        **{name: float(np.percentile(values, rank)) for rank, name in _QUANTILES},
        "max": float(values.max()),
    }
