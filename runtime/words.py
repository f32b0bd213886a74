"""Words of messages."""

import difflib
from collections.abc import Iterable


def brief(error: BaseException) -> str:
    """Return the beginning of what an error says in one line, its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def did_you_mean(value: object, choices: Iterable[object]) -> str:
    """Return ' (did you mean ...?)' for the choice nearest to a misspelt `value`, or an empty string."""
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
