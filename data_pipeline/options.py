"""Options that several data sets and their tasks have, each with its default, limits and one line of help."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.seeds import LARGEST_SEED
from runtime.options import Option, declare, option

MOST = 2**31 - 1  # steps, samples and points are counted with 32 bits

# Training on one field per sample.
STEADY_DATA: Mapping[str, Option] = declare(
    points_per_step=option(
        0, help="random points of each sample that a step trains on; 0: all", minimum=0, maximum=MOST
    ),
)
STEADY_TASK: Mapping[str, Option] = declare(
    points_per_piece=option(
        0, help="points of a sample that evaluation computes at a time; 0: all at once", minimum=0, maximum=MOST
    ),
    diagnostics=option(
        0,
        help="steps between lines of diagnostics.jsonl, what mixers of FLARE++ say of themselves; 0: none",
        minimum=0,
        maximum=MOST,
    ),
)


def check_given(owner: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> None:
    """Raise DataError for a name in `given` that is no option of `owner`, and for a value out of its limits."""
    for name, value in given.items():
        if name not in known:
            raise DataError(f"{owner} has no option {name!r}; its options are {', '.join(known) or 'none'}")
        try:
            replace(known[name], name=f"data.{name}").check(value)
        except ValueError as error:
            raise DataError(str(error)) from error


def buckets(default: int) -> Any:
    """Return the option `buckets`."""
    text = "sizes that clouds of points are padded to, one compilation each"
    return option(default, help=text, minimum=1, maximum=2**10)


def seed(default: int, help: str) -> Any:
    """Return the option of a random seed."""
    return option(default, help=help, minimum=0, maximum=LARGEST_SEED)


def noise(default: float, unit: str) -> Any:
    """Return the option `noise`."""
    return option(default, help=f"standard deviation of the training noise, in {unit}", minimum=0)


def symmetries() -> Any:
    """Return the option `symmetries`."""
    return option(False, help="turn and mirror parts at random in every step, which changes no field")


def of_parts(fields: str) -> Mapping[str, Option]:
    """Return the options of printed parts, of which `fields` are predicted by default."""
    return declare(
        fields=option(fields, help="fields to predict, by commas"),
        buckets=buckets(4),
        hanging_edges=option(True, help="edges of hanging nodes to the larger element, for messages along edges"),
        distance_features=option(False, help="distances to the surface as inputs beside the places"),
    )


def of_documents(max_length: int) -> Mapping[str, Option]:
    """Return the options of documents of so many tokens by default."""
    return declare(
        max_length=option(max_length, help="tokens of a document; longer ones are cut", minimum=1, maximum=2**20),
        mask_padding=option(False, help="padding has a token of its own and is masked"),
    )
