"""The figure of `benchmarks.devices`: efficiency, memory and communication over the number of devices."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

_COLORS = {"points": "C0", "batch": "C1"}
_STYLES = {"strong": "-o", "weak": "--s"}
_PANELS = {
    "efficiency": ("efficiency", lambda row: row["efficiency"]),
    "GiB per device": ("memory", lambda row: row["planned_gib"] if row["peak_gib"] is None else row["peak_gib"]),
    "MB summed per step": ("communication", lambda row: row["bytes"] / 1e6),
}


def devices_figure(rows: Sequence[dict[str, Any]], device: str) -> Figure:
    """Return the figure of the measured rows: one line of panels per model."""
    measured = [row for row in rows if row["step_ms"] is not None]
    models = list(dict.fromkeys(row["model"] for row in measured))
    figure = Figure(figsize=(11, 0.6 + 2.9 * max(1, len(models))), layout="constrained")
    panels = figure.subplots(max(1, len(models)), len(_PANELS), squeeze=False)
    for line, model in zip(panels, models, strict=False):
        for panel, (label, (title, value)) in zip(line, _PANELS.items(), strict=True):
            for scaling, style in _STYLES.items():
                for sharded, color in _COLORS.items():
                    wanted = {"model": model, "scaling": scaling, "sharded": sharded}
                    curve = [row for row in measured if wanted.items() <= row.items() and value(row) is not None]
                    name = f"{scaling}, {sharded} sharded"
                    if curve:
                        panel.plot([row["devices"] for row in curve], [value(row) for row in curve], style, color=color,
                                   label=name, markersize=4)  # fmt: skip
            counts = sorted({row["devices"] for row in measured})
            panel.set_xscale("log", base=2)
            panel.set_xticks(counts, [str(count) for count in counts])
            panel.set_ylim(bottom=0)
            panel.set(xlabel="devices", ylabel=label, title=f"{model}: {title}")
            panel.grid(alpha=0.3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(device, fontsize=9)
    return figure
