"""One task of the sequence zoo: the forms in which its files come, where to get them, and its options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.files import matching
from data_pipeline.sequence.dataset import SequenceDataset
from runtime.options import Option


@dataclass(frozen=True)
class Layout:
    """Files below the data folder that together hold a task: all must exist. Names may be patterns with `*`.

    `folder` may hold options in braces. `read(folder, **options)` loads the files; its keyword arguments are those
    options of the task that these files leave open. `fixed` are options that the files decide, with their values.
    """

    folder: str
    files: tuple[str, ...]
    read: Callable[..., SequenceDataset]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def place(self, data_dir: Path, options: Mapping[str, Any]) -> Path:
        """Return the folder of the files."""
        return data_dir / self.folder.format(**options)

    def complete(self, data_dir: Path, options: Mapping[str, Any]) -> bool:
        """Return whether all files are there."""
        folder = self.place(data_dir, options)
        return all(matching(folder, name) for name in self.files)

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that `read` takes."""
        parameters = inspect.signature(self.read).parameters.values()
        taken = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
        return {name: value for name, value in options.items() if name in taken}

    def uses(self, option: str) -> bool:
        """Return whether an option changes what is read, or from where."""
        return option in self.arguments({option: None}) or f"{{{option}}}" in self.folder


@dataclass(frozen=True)
class SequenceTask:
    """A task: `layouts` in order of preference, `download` says where the public files come from, if there are any.

    `generator` names the generator of `data_pipeline.generate` that writes the files of `generated`, a layout. Where
    `stand_in` is true they are another, artificial problem of the same shape, for tries without downloads, and are
    only used when asked for by name. `token_level`, `documents`, `masked` (samples have padding to mask) and `mlp_head`
    (the classifier has a hidden layer) are what a model needs to know before the data are read. `options`
    describe the keyword arguments of the readers.
    `recipe` holds the settings of the original's runs, for "all" backends or under the name of one; what it never ran
    has those of the nearest task. `smoke` changes config sections for a run of seconds; only sequences that are `short`
    suit costs of N³ there.
    """

    name: str
    layouts: tuple[Layout, ...]
    download: str
    generator: str | None = None
    generated: Layout | None = None
    stand_in: bool = False
    token_level: bool = False
    documents: int = 1
    masked: bool = False
    mlp_head: bool = False
    short: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    smoke: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
