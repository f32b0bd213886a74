"""The figure of `benchmarks.scaling`: time and memory of one layer over the number of points."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.figure import Figure

COLORS = {"softmax": "Greys", "physics": "Oranges", "flare": "Blues"}
STYLES = {"jax": "-", "torch": ":"}
SIZE_NAMES = {"softmax": "", "physics": "slices", "flare": "latents"}
NAMES = {"softmax": "softmax attention", "physics": "physics attention", "flare": "FLARE"}


class Point(NamedTuple):
    """One measurement: `size` is the number of latents or slices, 0 for softmax; None for what was not measured."""

    framework: str
    mixer: str
    size: int
    points: int
    dtype: str
    seconds: float | None
    mebibytes: float | None
    error: str = ""

    @property
    def series(self) -> tuple[str, str, int]:
        """The curve that the point lies on."""
        return self.framework, self.mixer, self.size


def scaling_figure(points: Sequence[Point], device: str) -> Figure:
    """Return the figure of all curves; a curve ends where the memory or the time ended."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    time_panel, memory_panel = figure.subplots(1, 2)
    sizes = sorted({point.size for point in points if point.size})
    for series in dict.fromkeys(point.series for point in points if point.seconds is not None):
        curve = [point for point in points if point.series == series and point.seconds is not None]
        framework, mixer, size = series
        # Darker for more latents or slices.
        shade = 0.45 + 0.5 * (sizes.index(size) + 1) / len(sizes) if size else 0.8
        style = {"color": colormaps[COLORS[mixer]](shade), "linestyle": STYLES[framework]}
        style |= {"marker": "o", "markersize": 3}
        counts = [point.points for point in curve]
        time_panel.plot(counts, [1e3 * point.seconds for point in curve], label=series_label(series), **style)
        memory_panel.plot(counts, [(point.mebibytes or float("nan")) / 2**10 for point in curve], **style)
    for panel, name in ((time_panel, "time, ms"), (memory_panel, "peak memory, GiB")):
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xlabel("points")
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    figure.suptitle(f"One layer of 128 channels and 8 heads, forward and backward\n{device}", fontsize=9)
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def series_label(series: tuple[str, str, int]) -> str:
    """Return the name of a curve."""
    framework, mixer, size = series
    sizes = f", {size} {SIZE_NAMES[mixer]}" if size else ""
    return f"{NAMES[mixer]}{sizes}{' (PyTorch)' if framework == 'torch' else ''}"
