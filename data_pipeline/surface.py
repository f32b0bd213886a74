"""Which fields of a data set are the pressure and the shear stress on the surface of a body."""

from collections.abc import Mapping
from typing import NamedTuple

from data_pipeline.errors import DataError


class Surface(NamedTuple):
    """The names of the fields of pressure, with one channel, and of wall shear stress, a vector."""

    pressure: str
    wall_shear: str


def parse_surface(text: str) -> Surface | None:
    """Return the fields that a text names, None for ''; raises DataError for one that is not understood."""
    if not text:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise DataError(f"data.surface={text!r} is not understood; write the two fields as PRESSURE,SHEAR")
    return Surface(*names)


def check_surface(surface: Surface | None, targets: Mapping[str, int]) -> None:
    """Raise DataError unless both fields are among the targets, a single number and a vector."""
    kinds = (((1,), "a field of one channel"), ((2, 3), "a vector"))
    for name, (widths, kind) in zip(surface or (), kinds, strict=False):
        if targets.get(name) not in widths:
            found = f"has {targets[name]}" if name in targets else "is none of the targets"
            known = ", ".join(f"{target} ({width})" for target, width in targets.items())
            raise DataError(
                f"data.surface={','.join(surface)!r} wants {kind} where it has {name!r}, which {found}; choose among "
                f"{known}"
            )
