"""List the experiments that come with the project: `python -m configs [WORD]`, only those whose line has the word.

Each with its data set, the size of its model, the result to expect where it was measured, and its command.
"""

import importlib
import pkgutil
from collections.abc import Iterator

from ml_collections import ConfigDict

import configs
from runtime.command import Parser

_SIZES = ("channel_dim", "num_blocks", "num_heads", "num_latents")
# General configs want arguments; what they make is listed by their own docstrings.
GENERAL = ("pde", "lra", "custom", "lm")


def experiments() -> Iterator[str]:
    """Yield the names of all configs that need no argument."""
    for module in pkgutil.iter_modules(configs.__path__):
        if module.name not in (*GENERAL, "__main__") and hasattr(_module(module.name), "get_config"):
            yield module.name


def lines(name: str) -> list[str]:
    """Return what is printed about one experiment."""
    module = _module(name)
    config = module.get_config()
    expected = module.EXPECTED
    return [
        f"{name}: {(module.__doc__ or '').splitlines()[0]}",
        f"    {config.data.name}, {_size(config)}, {_length(config)}",
        f"    expected: {'not measured yet' if expected is None else expected.describe()}",
        f"    python -m experiments.pdebench --config=configs/{name}.py",
    ]


def main() -> None:
    """Print the list; raises SystemExit where a word is in no line of it."""
    parser = Parser(prog="python -m configs", description=__doc__.splitlines()[0])
    parser.add_argument("word", nargs="?", default="", help="print only experiments whose lines have this word")
    word = parser.parse_args().word
    found = [text for text in ("\n".join(lines(name)) for name in experiments()) if word in text]
    if not found:
        parser.error(f"no experiment has the word {word!r}; python -m configs lists all")
    print("\n".join(found))
    for name in GENERAL:
        if not word:
            print("\n" + (_module(name).__doc__ or "").strip())


def _module(name: str) -> object:
    return importlib.import_module(f"configs.{name}")


def _size(config: ConfigDict) -> str:
    sizes = [f"{size} {config.model[size]}" for size in _SIZES if size in config.model]
    return f"model {config.model.type} ({', '.join(sizes)})"


def _length(config: ConfigDict) -> str:
    length = f"{config.train.epochs} epochs" if config.train.epochs else f"{config.train.steps} steps"
    return f"{length} of batch {config.train.batch_size}, {config.train.dtype}"


if __name__ == "__main__":
    main()
