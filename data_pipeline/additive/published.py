"""The layout of the public set `vedantpuri/LPBF_FLARE`, for parts that were extracted or generated.

    train/*.npz, test/*.npz     final states, `case<number>_<case>.npz`, in the format of `data_pipeline.additive.case`
    series/{train,test}/*.npz   the same parts layer by layer, where they are there; ours, the public set has none
    index.json                  per split the columns case_id, file, num_nodes, num_edges and metadata of its table
    data/*.parquet              the same tables as in the public set, where pyarrow is installed

Every file of a final state has a text `_metadata` besides, as the public ones have; nothing is pickled.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipeline.additive.case import FinalCase, write_case
from runtime.files import write_text

SPLITS = ("train", "test")
SERIES = "series"
INDEX = "index.json"
TABLES = "data"
TEST_SHARE = 290 / 1390  # of the public set

Row = Mapping[str, str | int]


def file_name(number: int, case: str) -> str:
    """Return the name of the file of a part; `number` is its place among all cases."""
    return f"case{number:05d}_{case}.npz"


def write_final(folder: Path, number: int, case: FinalCase, generated: bool) -> Row:
    """Write the published arrays of a final state into `folder`, a split's, and return its row of the index."""
    content = {"metadata": {"case_name": case.name, "zmax": None, "time_steps": 1}}
    text = json.dumps({**content, "generated": True} if generated else content)
    name = file_name(number, case.name)
    write_case(folder / name, replace(case, others={"_metadata": np.array([text])}))
    return {
        "case_id": Path(name).stem,
        "file": f"{folder.name}/{name}",
        "num_nodes": len(case.pos),
        "num_edges": int(case.edge_index.shape[1]),
        "metadata": text,
    }


def write_index(folder: Path, rows: Mapping[str, Sequence[Row]]) -> None:
    """Write the tables of all splits."""
    write_text(folder / INDEX, json.dumps(rows, indent=1) + "\n")


def write_tables(folder: Path, rows: Mapping[str, Sequence[Row]]) -> bool:
    """Write the table of each split as parquet, if pyarrow is there; return whether it is."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return False
    types = {"case_id": pyarrow.string(), "file": pyarrow.string(), "num_nodes": pyarrow.int64()}
    types |= {"num_edges": pyarrow.int64(), "metadata": pyarrow.string()}
    (folder / TABLES).mkdir()
    for split, part in rows.items():
        table = pyarrow.Table.from_pylist(list(part), schema=pyarrow.schema(types))
        pyarrow.parquet.write_table(table, folder / TABLES / f"{split}-00000-of-00001.parquet")
    return True


def split_cases(names: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Return the names of both splits, sorted: a permutation by the seed, in the public proportions."""
    ordered = sorted(names)
    order = np.random.default_rng(seed).permutation(len(ordered))
    test = min(max(1, round(len(ordered) * TEST_SHARE)), len(ordered) - 1)
    parts = {"test": order[:test], "train": order[test:]}
    return {split: [ordered[place] for place in np.sort(parts[split])] for split in SPLITS}
