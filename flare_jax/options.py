"""Options of models and mixers (`runtime.options`), and the largest sizes that they take."""

from runtime.options import Config, Option, check_names, option, options_of, unused_because, without_unused

__all__ = [
    "MAX_BLOCKS",
    "MAX_HEADS",
    "MAX_LATENTS",
    "MAX_LAYERS",
    "MAX_POINTS",
    "MAX_RATIO",
    "MAX_WIDTH",
    "Config",
    "Option",
    "check_names",
    "option",
    "options_of",
    "unused_because",
    "without_unused",
]

# Sizes beyond these are mistakes of typing: they are refused before anything of that size is allocated.
MAX_WIDTH = 2**16
MAX_HEADS = 2**12
MAX_BLOCKS = 2**10
MAX_LAYERS = 2**8
MAX_LATENTS = 2**17
MAX_POINTS = 2**31
MAX_RATIO = 2**8
