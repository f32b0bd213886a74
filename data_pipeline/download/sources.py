"""Where the public data sets come from, and where their files go below the data root."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipeline.errors import DataError
from runtime.words import did_you_mean

_HUB = "https://huggingface.co/datasets"
_SURROGATES = "vedantpuri/PDESurrogates"
_SURFACES = "neashton/drivaerml"
_MESH_GRAPH_NETS = "https://storage.googleapis.com/dm-meshgraphnets"


@dataclass(frozen=True)
class Remote:
    """One file: its path `name` below a mirror, and its `url`, or the `repository` on the Hugging Face hub that has it.

    A name of several parts begins with a folder of the mirror, in whose place a repository is. `md5` is its sum, where
    one is published.
    """

    name: str
    url: str = ""
    repository: str = ""
    md5: str = ""

    @property
    def place(self) -> str:
        """The path in the repository, and of a loose file in the folder of its set."""
        return self.name.partition("/")[2] or self.name

    @property
    def origin(self) -> str:
        """The address, for people and for the record."""
        return self.url or f"{_HUB}/{self.repository}/resolve/main/{self.place}"


@dataclass(frozen=True)
class PublicSet:
    """Files that are fetched together into `folder` below the data root, and unpacked where they are archives.

    `serves` names the data sets and tasks in them. Archives within an archive that fit `inner` are unpacked where they
    lie. A `snapshot` is a whole repository of the hub, whose files are known there alone. Files that are meshes have
    `cell_fields`. With `runs` there is a file for each of these numbers, in their order. Of a text there are `count`
    files that fit `documents`.
    """

    folder: Path
    files: tuple[Remote, ...]
    serves: tuple[str, ...]
    inner: str = ""
    snapshot: str = ""
    cell_fields: tuple[str, ...] = ()
    runs: tuple[int, ...] = ()
    documents: str = ""
    count: int = 0

    @property
    def origins(self) -> list[str]:
        """The addresses of all files, of many runs that of the first."""
        if self.snapshot:
            return [f"{_HUB}/{self.snapshot}"]
        shown = [file.origin for file in self.files[: 1 if self.runs else None]]
        return [f"{shown[0]} and so on for {len(self.runs)} runs (--runs)"] if self.runs else shown

    def of_runs(self, chosen: Collection[int]) -> "PublicSet":
        """Return the set of these runs alone, of all for none; raises DataError for one that was not published."""
        if not chosen:
            return self
        if not self.runs:
            raise DataError(f"{self.serves[0]} does not consist of runs; leave --runs out")
        missing = sorted(set(chosen) - set(self.runs))
        if missing:
            raise DataError(
                f"--runs names {', '.join(map(str, missing[:8]))}, but of {self.serves[0]} only {len(self.runs)} runs "
                f"of 1 to {self.runs[-1]} are published; leave these out"
            )
        kept = [(run, file) for run, file in zip(self.runs, self.files, strict=True) if run in chosen]
        return replace(self, runs=tuple(run for run, _ in kept), files=tuple(file for _, file in kept))


def _archive(folder: str, name: str, *serves: str) -> PublicSet:
    return PublicSet(Path(folder), (Remote(name, repository=_SURROGATES),), serves)


def _series(name: str, published: str) -> PublicSet:
    parts = ("meta.json", "train.tfrecord", "valid.tfrecord", "test.tfrecord")
    files = tuple(Remote(f"{published}/{part}", f"{_MESH_GRAPH_NETS}/{published}/{part}") for part in parts)
    return PublicSet(Path("MeshGraphNets") / name, files, (name,))


def _puzzles(folder: str, task: str) -> PublicSet:
    files = tuple(Remote(f"{folder}/{part}.csv", repository=f"sapientinc/{folder}") for part in ("train", "test"))
    return PublicSet(Path(folder), files, (task,))


def _surfaces() -> PublicSet:
    """Return the surface meshes of DrivAerML, of 500 runs those that were published (arXiv 2408.11969)."""
    never = {167, 211, 218, 221, 248, 282, 291, 295, 316, 325, 329, 364, 370, 376, 403, 473}
    runs = tuple(run for run in range(1, 501) if run not in never)
    files = tuple(Remote(f"drivaerml/run_{run}/boundary_{run}.vtp", repository=_SURFACES) for run in runs)
    fields = ("pMeanTrim", "wallShearStressMeanTrim")
    return PublicSet(Path("DrivAerML") / "raw", files, ("drivaerml_raw",), cell_fields=fields, runs=runs)


_LONG_RANGE = ("listops", "retrieval", "pathfinder32", "pathfinder128")
_SIZES = ("10k", "40k", "100k", "200k", "300k", "400k", "500k", "1m")
PUBLIC_SETS = (
    _archive("Geo-FNO", "Geo-FNO.tar.gz", "elasticity", "plasticity", "pipe", "airfoil_steady"),
    _archive("FNO", "FNO.tar.gz", "darcy", "navier_stokes"),
    *(_archive("DrivAerML", f"drivaerml_surface_presampled_{size}.tar.gz", f"drivaerml_{size}") for size in _SIZES),
    _surfaces(),
    PublicSet(
        Path("ShapeNet-Car"),
        (Remote("mlcfd_data.zip", "http://www.nobuyuki-umetani.com/publication/mlcfd_data.zip"),),
        ("shapenet_car",),
        inner="param*.tar.gz",
    ),
    PublicSet(Path("LPBF_FLARE"), (), ("lpbf",), snapshot="vedantpuri/LPBF_FLARE"),
    _series("airfoil_dynamic", "airfoil"),
    _series("cylinder_flow", "cylinder_flow"),
    PublicSet(
        Path("lra_release"),
        (Remote("lra_release.gz", "https://storage.googleapis.com/long-range-arena/lra_release.gz"),),
        _LONG_RANGE,
    ),
    PublicSet(
        Path("aclImdb"),
        (Remote("aclImdb_v1.tar.gz", "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"),),
        ("text",),
    ),
    PublicSet(
        Path("cifar-10-batches-py"),
        (
            Remote(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                md5="c58f30108f718f92721af3b95e74349a",
            ),
        ),
        ("image",),
    ),
    _puzzles("sudoku-extreme", "sudoku"),
    _puzzles("maze-30x30-hard-1k", "maze"),
    PublicSet(
        Path("novels"),
        (
            Remote(
                "100_english_novels.tar.gz",
                "https://github.com/computationalstylistics/100_english_novels/archive/143e601.tar.gz",
            ),
        ),
        ("novels",),
        documents="corpus/*.txt",
        count=100,
    ),
)
BY_NAME: Mapping[str, PublicSet] = {name: public for public in PUBLIC_SETS for name in public.serves}
# What cannot be fetched by a program, and what to do instead.
BY_HAND = {
    "lra_pickles": "the preprocessed pickles of the Kaggle data set a24998667/long-range-arena-processed need an "
    "account: fetch them there by hand and unpack them to LongRangeArena below the data root",
}


def find_public(name: str) -> PublicSet:
    """Return the source of a data set or task; raises DataError for one that has none."""
    if name in BY_HAND:
        raise DataError(BY_HAND[name])
    if name not in BY_NAME:
        raise DataError(
            f"{name!r} has no public source{did_you_mean(name, BY_NAME)}; choose among {', '.join(BY_NAME)}, or see "
            "--list"
        )
    return BY_NAME[name]
