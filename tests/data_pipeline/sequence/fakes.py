"""Miniature files of the true layouts of the sequence tasks."""

import csv
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.sequence.match3 import matches


def write_listops(data_dir: Path, lines: tuple[str, ...] = ("( ( ( ( [MAX 2 ) 9 ) 5 ) ] )\t9",)) -> Path:
    folder = data_dir / "lra_release" / "listops-1000"
    folder.mkdir(parents=True)
    for split in ("train", "val", "test"):
        (folder / f"basic_{split}.tsv").write_text("\n".join(["Source\tTarget", *lines]) + "\n")
    return folder


def write_acl_imdb(data_dir: Path) -> Path:
    folder = data_dir / "aclImdb"
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            (folder / split / label).mkdir(parents=True)
            for number in range(3):
                (folder / split / label / f"{number}_7.txt").write_text(f"{split} {label} {number} é")
        (folder / split / "labeledBow.feat").write_text("not a review")
    return folder


def write_aan(data_dir: Path) -> Path:
    folder = data_dir / "lra_release" / "tsv_data"
    folder.mkdir(parents=True)
    for split in ("train", "eval", "test"):
        lines = ["1.0\tP01\tP02\tfirst text\tsecond, longer text", "0.0\tP03\tP04\ta\tb"]
        (folder / f"new_aan_pairs.{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def cifar_images(samples: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (samples, 32, 32, 3), dtype=np.uint8)


def write_cifar_batches(data_dir: Path) -> Path:
    folder = data_dir / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rows = cifar_images().transpose(0, 3, 1, 2).reshape(-1, 3072)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = {b"batch_label": name.encode(), b"labels": list(range(10)), b"data": rows, b"filenames": [b"a"] * 10}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def write_pathfinder(data_dir: Path, side: int = 32, samples: int = 20, broken: int | None = None) -> Path:
    folder = data_dir / "lra_release" / f"pathfinder{side}" / "curv_contour_length_14"
    (folder / "metadata").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(2):
        (folder / "imgs" / str(number)).mkdir(parents=True)
        lines = []
        for index in range(samples // 2):
            path = folder / "imgs" / str(number) / f"sample_{index}.png"
            Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(path)
            if broken == number * samples // 2 + index:
                path.write_bytes(b"")
            lines.append(f"imgs/{number} sample_{index}.png {index} {index % 2} 0.5 3 14 2")
        (folder / "metadata" / f"{number}.npy").write_text("\n".join(lines) + "\n")
    return folder


def write_pickles(data_dir: Path, stem: str, samples: int = 6, length: int = 8, pair: bool = False, **changes) -> Path:
    folder = data_dir / "LongRangeArena"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split in ("train", "dev"):
        rows = []
        for index in range(samples):
            ids = rng.integers(1, 10, length)
            ids[length - index % 3 :] = 0
            row = {"input_ids_0": ids.tolist(), "label": int(index % 2)}
            rows.append(row | ({"input_ids_1": rng.integers(1, 10, length)} if pair else {}) | changes)
        (folder / f"lra-{stem}.{split}.pickle").write_bytes(pickle.dumps(rows))
    return folder


PUZZLE = "12....7..5..89.2378.12...............................9............................"[:81]


def write_board_csv(folder: Path, puzzle: str, solution: str, ratings: tuple[int, ...] = (0, 3, 9)) -> Path:
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("source", "question", "answer", "rating"))
            writer.writerows(("some", puzzle, solution, rating) for rating in ratings)
    return folder


def write_strassen(data_dir: Path) -> Path:
    folder = data_dir / "Strassen"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    inputs = [rng.integers(1, 37, rng.integers(30, 36)) for _ in range(20)]
    labels = [matches(row, 37) for row in inputs]
    (folder / "match3.pkl").write_bytes(pickle.dumps((inputs, labels)))
    return folder
