"""Pathfinder images: two long dashed paths, shorter ones that distract, and a disc on two of the four long ends.

After Linsley et al. (arXiv 1805.08315): the label says whether the discs lie on one path. Paths are chains of dashes
whose direction turns a little from dash to dash; none comes near another or itself. All lengths are shares of the
image's side, so both sizes show the same pictures. The files have the layout of the Long Range Arena's release, not
its exact statistics: its dashes are drawn and faded by another program.
"""

from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from data_pipeline.generate.chunks import Samples
from data_pipeline.generate.generator import Generator

LONG, SHORT, DISTRACTORS = 14, 5, 4  # dashes per path, and short paths
STEP, DASH = 0.068, 0.042  # from dash to dash, and the drawn part
TURN = 0.35  # standard deviation of the change of direction per dash, radians
MARGIN, CLEARANCE = 0.06, 0.075
DISC, WIDTH = 0.032, 0.012  # radii of discs and lines
_PER_FOLDER = 1000

Polyline = Float[np.ndarray, "N 2"]


def image(seed: int, index: int, side: int) -> tuple[UInt8[np.ndarray, "N N"], int]:
    """Return one image of side × side grey levels and its label."""
    rng = np.random.default_rng([seed, index])
    paths = _paths(rng)
    label = int(rng.integers(2))
    first, second = paths[:2] if rng.random() < 0.5 else paths[1::-1]
    ends = (first[0], first[-1]) if label else (first[rng.choice((0, -1))], second[rng.choice((0, -1))])
    return _draw(paths, ends, side), label


def _paths(rng: np.random.Generator) -> list[Polyline]:
    """Return two long and some short paths that keep clear of each other."""
    while True:
        paths: list[Polyline] = []
        for dashes in (LONG, LONG, *[SHORT] * DISTRACTORS):
            path = next((path for _ in range(60) if (path := _path(rng, dashes, paths)) is not None), None)
            if path is None:
                break
            paths.append(path)
        else:
            return paths


def _path(rng: np.random.Generator, dashes: int, others: list[Polyline]) -> Polyline | None:
    """Return the starts of `dashes` dashes and the end of the last, or None where the attempt meets an obstacle."""
    taken = np.concatenate([np.empty((0, 2)), *(_along(path) for path in others)])
    position = rng.uniform(MARGIN, 1 - MARGIN, 2)
    direction = rng.uniform(0, 2 * np.pi)
    points = [position]
    for _ in range(dashes):
        direction += TURN * rng.standard_normal()
        position = position + STEP * np.array([np.cos(direction), np.sin(direction)])
        own = np.array(points[:-2]).reshape(-1, 2)
        obstacles = np.concatenate([taken, own])
        outside = np.abs(position - 0.5).max() > 0.5 - MARGIN
        if outside or (np.linalg.norm(obstacles - position, axis=1) < CLEARANCE).any():
            return None
        points.append(position)
    if len(taken) and (np.linalg.norm(taken - points[0], axis=1) < CLEARANCE).any():
        return None
    return np.array(points)


def _along(path: Polyline) -> Polyline:
    """Return the path's points and those half-way between them."""
    return np.concatenate([path, (path[1:] + path[:-1]) / 2])


def _draw(paths: list[Polyline], ends: tuple[np.ndarray, np.ndarray], side: int) -> UInt8[np.ndarray, "N N"]:
    starts = np.concatenate([path[:-1] for path in paths])
    steps = np.concatenate([np.diff(path, axis=0) for path in paths]) * (DASH / STEP)
    centres = (np.arange(side) + 0.5) / side
    pixels = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    # Distance of every pixel to every dash, and to the discs' centres.
    along = np.clip(((pixels - starts) * steps).sum(-1) / (steps**2).sum(-1), 0.0, 1.0)
    to_dashes = np.linalg.norm(pixels - starts - along[..., None] * steps, axis=-1).min(1)
    to_discs = np.linalg.norm(pixels - np.array(ends), axis=-1).min(1)
    shade = np.maximum(_soft(WIDTH - to_dashes, side), _soft(DISC - to_discs, side))
    return np.round(255 * shade).astype(np.uint8).reshape(side, side)


def _soft(depth: Float[np.ndarray, " N"], side: int) -> Float[np.ndarray, " N"]:
    """Return 1 inside and 0 outside with an edge of one pixel; `depth` is the distance into the shape."""
    return np.clip(depth * side + 0.5, 0.0, 1.0)


def _solve(side: int, seed: int, indices: range) -> dict[str, np.ndarray]:
    images, labels = zip(*(image(seed, index, side) for index in indices), strict=True)
    return {"images": np.stack(images), "labels": np.array(labels, np.int8)}


def _export(samples: Samples, folder: Path) -> None:
    """Write PNG images in folders of a thousand and one text file for each, as the release does."""
    for name in ("imgs", "metadata"):
        (folder / name).mkdir(exist_ok=True)
    rows = samples.rows()
    for number in range(-(-samples.num // _PER_FOLDER)):
        (folder / "imgs" / str(number)).mkdir(exist_ok=True)
        lines = []
        for index, row in enumerate(islice(rows, _PER_FOLDER)):
            file = f"sample_{index}.png"
            Image.fromarray(row["images"]).save(folder / "imgs" / str(number) / file)
            lines.append(f"imgs/{number} {file} {index} {row['labels']}")
        (folder / "metadata" / f"{number}.npy").write_text("\n".join(lines) + "\n")


def _generator(side: int) -> Generator:
    return Generator(
        name=f"pathfinder{side}",
        folder=f"lra_release/pathfinder{side}/curv_contour_length_14",
        files=("imgs", "metadata"),
        num=200_000,
        chunk=500 if side <= 32 else 100,
        solver="two dashed paths of 14 dashes and 4 of 5, with discs on two ends",
        version=1,
        details={"images": "PNG, grey, anti-aliased; own geometry, so not the statistics of the public images"},
        solve=partial(_solve, side),
        export=_export,
    )


GENERATORS = {str(side): _generator(side) for side in (32, 128)}
