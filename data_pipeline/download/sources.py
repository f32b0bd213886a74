"""Where the public data sets come from, and where their files go below the data root."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DataError

_HUB = "https://huggingface.co/datasets"
_SURROGATES = "vedantpuri/PDESurrogates"
_MESH_GRAPH_NETS = "https://storage.googleapis.com/dm-meshgraphnets"


@dataclass(frozen=True)
class Remote:
    """One file: its path `name` below a mirror, and its `url`, or the `repository` on the Hugging Face hub that has it.

    In a repository it lies under the last part of its name. `md5` is its sum, where one is published.
    """

    name: str
    url: str = ""
    repository: str = ""
    md5: str = ""

    @property
    def origin(self) -> str:
        """The address, for people and for the record."""
        return self.url or f"{_HUB}/{self.repository}/resolve/main/{Path(self.name).name}"


@dataclass(frozen=True)
class PublicSet:
    """Files that are fetched together into `folder` below the data root, and unpacked where they are archives.

    `serves` names the data sets and tasks in them. Archives within an archive that fit `inner` are unpacked where they
    lie. A `snapshot` is a whole repository of the hub, whose files are known there alone.
    """

    folder: Path
    files: tuple[Remote, ...]
    serves: tuple[str, ...]
    inner: str = ""
    snapshot: str = ""

    @property
    def origins(self) -> list[str]:
        """The addresses of all files."""
        return [f"{_HUB}/{self.snapshot}"] if self.snapshot else [file.origin for file in self.files]


def _archive(folder: str, name: str, *serves: str) -> PublicSet:
    return PublicSet(Path(folder), (Remote(name, repository=_SURROGATES),), serves)


def _series(name: str, published: str) -> PublicSet:
    parts = ("meta.json", "train.tfrecord", "valid.tfrecord", "test.tfrecord")
    files = tuple(Remote(f"{published}/{part}", f"{_MESH_GRAPH_NETS}/{published}/{part}") for part in parts)
    return PublicSet(Path("MeshGraphNets") / name, files, (name,))


def _puzzles(folder: str, task: str) -> PublicSet:
    files = tuple(Remote(f"{folder}/{part}.csv", repository=f"sapientinc/{folder}") for part in ("train", "test"))
    return PublicSet(Path(folder), files, (task,))


_LONG_RANGE = ("listops", "retrieval", "pathfinder32", "pathfinder128")
_SIZES = ("10k", "40k", "100k", "200k", "300k", "400k", "500k", "1m")
PUBLIC_SETS = (
    _archive("Geo-FNO", "Geo-FNO.tar.gz", "elasticity", "plasticity", "pipe", "airfoil_steady"),
    _archive("FNO", "FNO.tar.gz", "darcy", "navier_stokes"),
    *(_archive("DrivAerML", f"drivaerml_surface_presampled_{size}.tar.gz", f"drivaerml_{size}") for size in _SIZES),
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
        raise DataError(f"{name!r} has no public source; choose among {', '.join(BY_NAME)}, or see --list")
    return BY_NAME[name]
