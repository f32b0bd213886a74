"""ShapeNet-Car: surface pressure on cars in a wind tunnel (Umetani & Bickel 2018; split of UPT, arXiv 2402.12364).

Folders param0 … param8 with one folder per case: `quadpress_smpl.vtk`, a mesh of quadrilaterals, and `press.npy`, the
pressure at its points. Points that no quadrilateral uses are dropped, which leaves 3586. The input is the coordinates,
scaled by constants to the unit cube, the target the pressure, which is normalised by constants.

Cases are ordered by folder, then by name; the 189 test cases are those of UPT's list, the other 700 train. Folders that
lack the mesh or the pressure (four in the public set) are left out before counting.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from data_pipeline.clouds import pad_clouds
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.errors import DataError
from data_pipeline.files import first_samples, matching, read_npy, split_ends
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import MANY_SUPERNODES, DatasetRecord
from data_pipeline.vtk import read_quad_surface

FOLDER = Path("ShapeNet-Car")
FILES = tuple(f"param{number}" for number in range(9))

LOW, HIGH = (-2.0, -1.0, -4.5), (2.0, 4.5, 6.0)
PRESSURE_MEAN, PRESSURE_STD = -36.3099, 48.5743
MESH_FILE, PRESSURE_FILE = "quadpress_smpl.vtk", "press.npy"

CASES = 889
_TEST_CASES = """
4 5 8 11 14 15 16 21 38 41 55 62 65 72 73 81 84 87 88 96 98 99 101 108 109 111 112 113 114 116 118 120 121 123
129 133 134 135 140 142 155 156 162 163 168 174 177 181 182 188 189 190 195 203 209 210 212 216 218 222 227 229
239 250 257 259 274 294 303 316 317 318 320 333 334 338 341 344 346 348 349 352 353 356 363 367 373 384 385 387
399 401 407 411 412 417 427 445 447 462 464 474 479 495 496 500 505 508 512 515 517 518 523 525 528 531 537 542
546 547 550 551 555 580 584 592 602 607 615 620 623 628 631 632 641 644 645 646 650 651 653 656 658 662 663 664
665 669 671 676 678 699 708 713 714 720 723 725 732 734 745 746 749 758 764 765 767 770 773 779 786 788 790 798
805 808 809 821 828 829 836 837 840 843 849 854 876 877 878
"""


def root(data_dir: Path) -> Path:
    """Return the folder that holds param0 … param8: the archive has them in a folder of its own."""
    folder = data_dir / FOLDER
    candidates = (folder, folder / "training_data", folder / "mlcfd_data" / "training_data")
    return next((place for place in candidates if (place / FILES[0]).is_dir()), folder)


def load(data_dir: Path, n_train: int, n_test: int) -> PDEDataset:
    """Load the cases below `data_dir`, the first `n_train` of those that train and the first `n_test` of the others.

    Generated cases are not those of the public list: of them the first train and the last test. Raises DataError.
    """
    folder = root(data_dir)
    source = Source.of(folder)
    cases = case_folders(folder)
    train, test = split_cases(len(cases), n_train, n_test, source, folder)
    coordinates = Normalizer(np.array(LOW), np.array(HIGH) - np.array(LOW))
    return PDEDataset(
        name="shapenet_car",
        train=_read([cases[i] for i in train], coordinates),
        tests={"test": _read([cases[i] for i in test], coordinates)},
        x_normalizer=coordinates,
        y_normalizer=Normalizer(np.array([PRESSURE_MEAN]), np.array([PRESSURE_STD])),
        source=source,
        target_name="surface pressure",
        space_dim=3,
    )


def case_folders(folder: Path) -> list[Path]:
    """Return the folders of all complete cases in the order of the public split."""
    names = (MESH_FILE, PRESSURE_FILE)
    found = [case for part in FILES for case in matching(folder / part, "*") if case.is_dir()]
    return [case for case in found if all((case / name).exists() for name in names)]


def split_cases(
    total: int, n_train: int, n_test: int, source: Source, folder: Path
) -> tuple[Int[np.ndarray, " A"], Int[np.ndarray, " B"]]:
    """Return the numbers of the training and of the test cases."""
    everything = np.arange(total)
    if source.kind == "generated":
        train, test = split_ends(total, n_train, n_test, str(folder))
        return everything[train], everything[test]
    if total != CASES:
        raise DataError(
            f"{folder} holds {total} complete cases, but the public split numbers {CASES}; unpack all nine archives "
            f"again, each case needs {MESH_FILE} and {PRESSURE_FILE}"
        )
    test = np.array(_TEST_CASES.split(), int)
    train = np.setdiff1d(everything, test)
    where = f"the public split of {folder}"
    chosen = first_samples(len(train), n_train, "data.n_train", where)
    return train[chosen], test[first_samples(len(test), n_test, "data.n_test", where)]


def _read(cases: list[Path], coordinates: Normalizer) -> Split:
    points, pressures = zip(*(_read_case(case) for case in cases), strict=True)
    x, mask = pad_clouds([coordinates.encode(cloud) for cloud in points])
    y, _ = pad_clouds(pressures, x.shape[1])
    return Split(x, y, mask)


def _read_case(case: Path) -> tuple[np.ndarray, np.ndarray]:
    points, quads = read_quad_surface(case / MESH_FILE)
    pressure = read_npy(case / PRESSURE_FILE, None).reshape(-1)
    if len(pressure) != len(points):
        raise DataError(
            f"{case / PRESSURE_FILE} holds {len(pressure)} values for the {len(points)} points of {MESH_FILE}; unpack "
            "the archive again"
        )
    used = np.unique(quads)
    return points[used], pressure[used, None]


RECORD = DatasetRecord(
    name="shapenet_car",
    folder=FOLDER,
    files=FILES,
    download="mlcfd_data.zip on nobuyuki-umetani.com, with its nine inner archives param0 to param8 unpacked there",
    load=load,
    n_train=700,
    n_test=189,
    root=root,
    generator="shapenet_car",
    stand_in=True,
    points=3586,
    c_in=3,
    c_out=1,
    recipe={"all": {"epochs": 250, "batch_size": 1, "weight_decay": 5e-2}},
    model={"upt": MANY_SUPERNODES},
    like="drivaerml_40k",
    smoke={
        "data": {"n_train": 24, "n_test": 6, "num_generate": 38},
        "train": {"epochs": 20, "batch_size": 1},
    },
)
