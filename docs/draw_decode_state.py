"""What decoding keeps of a text, and how long a token takes, against the length of the text (figures/decode_state.png).

    python docs/draw_decode_state.py

Sizes are those of the arrays of `init_state`, of models in bfloat16; prints them as a table, too. Times are those that
`python -m benchmarks.causal_lm --output=docs/figures/language_costs.json` measured on a GPU.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from configs.lm import get_config
from experiments.model_options import option_values
from flare_jax.models.language import CausalDecoder, build_language_model
from runtime.json_files import read_object

MODELS = ("recommended", "published", "gla", "transformer")
COLORS = {"recommended": "#0b6fa4", "published": "#6fb1d6", "gla": "#5a9e4b", "transformer": "#8a8f98"}
TIMED = {**COLORS, "transformer_cudnn": "#3f4348"}
TIMED_NAMES = {"transformer_cudnn": "transformer, fused kernel"}
SIZES = ("15M", "340M")
CONTEXTS = tuple(2**power for power in range(7, 18))
SHOWN = (1024, 16_384, 131_072)
FIGURES = Path(__file__).parent / "figures"
COSTS = FIGURES / "language_costs.json"


def state_bytes(model: str, size: str, contexts: Sequence[int], batch: int = 1) -> list[int]:
    """Return the bytes of all arrays that a model keeps of so many tokens."""
    config = get_config(f"model={model},size={size}").model

    def build() -> CausalDecoder:
        return build_language_model(config.type, 256, option_values(config), rngs=nnx.Rngs(0), dtype="bfloat16")

    decoder = nnx.eval_shape(build)
    states = [jax.eval_shape(partial(decoder.init_state, batch, context)) for context in contexts]
    return [sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) for state in states]


def table(sizes: Mapping[tuple[str, str, int], int]) -> str:
    """Return the sizes as a table."""
    lines = ["| MiB, one text | 1 024 | 16 384 | 131 072 tokens |", "|---|---|---|---|"]
    for size in SIZES:
        for model in MODELS:
            cells = [f"{sizes[model, size, context] / 2**20:.3g}" for context in SHOWN]
            lines.append(f"| `{model}`, {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(sizes: Mapping[tuple[str, str, int], int], costs: Mapping[str, Any]) -> Figure:
    """Return the figure: a panel of what is kept per size of model, a line per model, and one of measured times."""
    figure = Figure(figsize=(12.0, 3.6), layout="constrained")
    *memory, time = figure.subplots(1, len(SIZES) + 1)
    for axes, size in zip(memory, SIZES, strict=True):
        for model in MODELS:
            values = [sizes[model, size, context] / 2**20 for context in CONTEXTS]
            axes.plot(CONTEXTS, values, "o-", color=COLORS[model], markersize=3, label=model)
        axes.set(title=f"{size} parameters, one text", ylabel="MiB that decoding keeps", yscale="log")
    draw_times(time, costs)
    for axes in figure.axes:
        axes.set_xlabel("tokens of context")
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.legend(frameon=False, fontsize=8)
    return figure


def draw_times(axes: Axes, costs: Mapping[str, Any]) -> None:
    """Draw the measured times of a step of decoding of one text, a line per model."""
    for model, color in TIMED.items():
        found = [
            (row["context"], row["token_ms"])
            for row in costs["results"]
            if (row["part"], row["model"], row.get("batch")) == ("decode", model, 1) and "token_ms" in row
        ]
        if found:
            label = TIMED_NAMES.get(model, model)
            axes.plot(*zip(*sorted(found), strict=True), "o-", color=color, markersize=3, label=label)
    axes.set(title=f"{costs['size']} parameters, one text, measured", ylabel="ms per token", ylim=(0, None))


def main() -> None:
    """Print the table and write the figure."""
    sizes = {}
    for model in MODELS:
        for size in SIZES:
            found = zip(CONTEXTS, state_bytes(model, size, CONTEXTS), strict=True)
            sizes |= {(model, size, context): value for context, value in found}
    print(table(sizes))
    draw(sizes, read_object(COSTS)).savefig(FIGURES / "decode_state.png", dpi=110)


if __name__ == "__main__":
    main()
