"""The record of a data set: where it is, how it is read, generated and got, what it asks for, how models learn it.

A new data set is a module with a `RECORD`; programs, configs and the command line read everything from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.options import STEADY_DATA, STEADY_TASK
from runtime.options import Option

# Settings of UPT on clouds of many points: a radius with some 8 to 32 neighbours (suggested, not published).
MANY_SUPERNODES: dict[str, Any] = {"num_supernodes": 2048, "radius": 5.0}


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A data set of fields on points.

    `files` below `folder` of the data root hold it; `root(data_dir)` finds that folder where it depends on how an
    archive was unpacked. `load(data_dir, n_train, n_test, **options)` returns a `PDEDataset`, `options` describe its
    further arguments. `download` says where to get the files; `generator` names the program that writes the
    same files, None where there is none, and `stand_in` is true where it imitates the shape of the data without their
    physics, so that it runs only when asked for. `n_train` and `n_test` are the published numbers of samples,
    `num_generate` how many are generated in their place.

    `kind` is the task (`data_pipeline.dataset.KINDS`), `task_options` are those that the data set adds to it. `points`,
    `c_in` and `c_out` are the sizes of a sample as published (its largest where they vary, 0 where unknown), `grid`
    those of its structured grid. A grid whose unified positions help is `unified`. Data on meshes with `has_edges`
    have a `load` that takes `edges=True`, for models that send messages along edges.

    Facts of training are by model type, family of models (`flare_jax.models.registry`), or "all": `recipe` changes
    options of `configs.pde_recipes.Recipe`, `model` those of models; sizes that nobody published are those of the data
    set `like`. `smoke` changes config sections for a run of minutes.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    download: str
    load: Callable[..., Any]
    n_train: int
    n_test: int
    root: Callable[[Path], Path] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    generator: str | None = None
    stand_in: bool = False
    num_generate: int = 2000
    kind: str = "steady"
    task_options: Mapping[str, Option] = field(default_factory=dict)
    points: int = 0
    c_in: int = 0
    c_out: int = 0
    grid: tuple[int, ...] | None = None
    unified: bool = False
    has_edges: bool = False
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    like: str | None = None
    eval_batch_size: int = 1
    smoke: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def all_data_options(self) -> dict[str, Option]:
        """Return the options of the data: those of its kind, then those of its loader."""
        return {**(STEADY_DATA if self.kind == "steady" else {}), **self.options}

    def all_task_options(self) -> dict[str, Option]:
        """Return the options of the task on this data set: those of its kind, then its own."""
        return {**(STEADY_TASK if self.kind == "steady" else {}), **self.task_options}

    def place(self, data_dir: Path) -> Path:
        """Return the folder of the files below the data root."""
        return data_dir / self.folder if self.root is None else self.root(data_dir)
