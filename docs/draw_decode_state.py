"""What decoding keeps of a text, against its length: `python docs/draw_decode_state.py` (figures/decode_state.png).

Sizes are those of the arrays of `init_state`, of models in bfloat16; prints them as a table, too.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import jax
from flax import nnx
from matplotlib.figure import Figure

from configs.lm import get_config
from experiments.model_options import option_values
from flare_jax.models.language import CausalDecoder, build_language_model

MODELS = ("recommended", "published", "gla", "transformer")
COLORS = {"recommended": "#0b6fa4", "published": "#6fb1d6", "gla": "#5a9e4b", "transformer": "#8a8f98"}
SIZES = ("15M", "340M")
CONTEXTS = tuple(2**power for power in range(7, 18))
SHOWN = (1024, 16_384, 131_072)


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


def draw(sizes: Mapping[tuple[str, str, int], int], names: Sequence[str] = SIZES) -> Figure:
    """Return the figure: a panel per size of model, a line per model."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        for model in MODELS:
            values = [sizes[model, size, context] / 2**20 for context in CONTEXTS]
            axes.plot(CONTEXTS, values, "o-", color=COLORS[model], markersize=3, label=model)
        axes.set(xscale="log", yscale="log", xlabel="tokens of context", title=f"{size} parameters, one text")
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
    figure.axes[0].set_ylabel("MiB that decoding keeps")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Print the table and write the figure."""
    sizes = {}
    for model in MODELS:
        for size in SIZES:
            found = zip(CONTEXTS, state_bytes(model, size, CONTEXTS), strict=True)
            sizes |= {(model, size, context): value for context, value in found}
    print(table(sizes))
    draw(sizes).savefig(Path(__file__).parent / "figures" / "decode_state.png", dpi=110)


if __name__ == "__main__":
    main()
