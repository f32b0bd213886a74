"""What all command lines share: errors of one sentence, and numbers within their range."""

import argparse
import math
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, without the usage text, and which takes no abbreviations."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"error: {message.removesuffix('.')}; see --help\n")


def sentence(error: BaseException) -> str:
    """Return an expected error as one sentence: what is wrong, and what to do."""
    if isinstance(error, MemoryError | OverflowError):
        reason = " ".join(str(error).split()) or "out of memory"
        return f"this is too large for the machine ({reason}); ask for less data, or for a smaller model or batch"
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return f"the file system refuses{where}: {error.strerror}; check that it exists, is writable and has space"
    return " ".join(str(error).split()) or type(error).__name__


def integer(minimum: int, maximum: int = 2**31 - 1) -> Callable[[str], int]:
    """Return the type of an option that takes an integer in this range."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text} must be an integer from {minimum} to {maximum}")
        return value

    return parse


def seconds(text: str) -> float:
    """Parse a time limit."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} must be a number of seconds, at least 0")
    return value
