"""Check golden files: `python -m tests.check_goldens FILE_OR_DIR ...` prints a line per file, exits 1 if any fails.

A line holds the name, the worst output error and the worst gradient error, each with its tolerance, and PASS or FAIL
with the reason. The `config` of a file decides which module of `tests.golden_checks` checks it, so that a new kind of
file needs a new module and nothing else.
"""

import argparse
import importlib
import importlib.util
import json
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from runtime import signals
from tests.golden_checks.core import Comparison

# Kernels and models of spec/causal_lm.md, with tolerances of their own.
CAUSAL_KINDS = (
    "causal_lm",
    "kernel/causal_flare_block",
    "kernel/causal_flare_forget",
    "kernel/causal_flare_prefill",
    "kernel/causal_flare_stablemax",
    "kernel/causal_gated_state",
)


def checker_name(config: Mapping[str, Any]) -> str:
    """Return the module of `tests.golden_checks` that checks files with this configuration."""
    kind = config.get("kind")
    if kind in CAUSAL_KINDS:
        return "causal"
    if kind is not None:
        return "kernels" if str(kind).startswith("kernel/") else str(kind)
    if "backend" in config and "model_type" in config:
        return "recursive_models" if config["model_type"] == "TRMWrapper" else "sequence_models"
    model = config.get("model")
    return model if model in ("spectrum", "ts3_attn2d") else "models"


def check_file(path: Path) -> tuple[str, bool]:
    """Return the line for one file and whether it passed; whatever goes wrong makes the line, not a crash."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        config = json.loads(_text(arrays.pop("config")))
        name = checker_name(config)
        if not name.isidentifier() or importlib.util.find_spec(f"tests.golden_checks.{name}") is None:
            return f"{path.name}  FAIL: there is no checker for files of kind {name!r}", False
        comparisons = importlib.import_module(f"tests.golden_checks.{name}").check(arrays, config)
    except (OSError, zipfile.BadZipFile, json.JSONDecodeError, KeyError) as error:
        return f"{path.name}  FAIL: not a readable golden file ({type(error).__name__}: {error})", False
    except Exception as error:  # one broken file must not hide the results of the others
        return f"{path.name}  FAIL: {' '.join(f'{type(error).__name__}: {error}'.split())}", False
    return _describe(path.name, comparisons)


def _text(array: np.ndarray) -> str:
    """Return the text that an array holds, as characters or as bytes."""
    value = array.reshape(-1)[0]
    return value.decode() if isinstance(value, bytes) else str(value)


def golden_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files given and, sorted, all .npz files below the folders given; raise if there are none."""
    files = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} does not exist; name golden files or folders that hold them")
        found = sorted(path.rglob("*.npz")) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"{path} holds no .npz file; name golden files or folders that hold them")
        files.extend(found)
    return files


def _describe(name: str, comparisons: Sequence[Comparison]) -> tuple[str, bool]:
    if not comparisons:
        return f"{name}  FAIL: the file holds nothing to compare", False
    columns = [f"{kind} {_worst_of(comparisons, kind)}" for kind in ("output", "gradient")]
    failed = [c for c in comparisons if not c.passed]
    verdict = "PASS"
    if failed:
        worst = max(failed, key=_severity)
        verdict = (
            f"FAIL: {len(failed)} of {len(comparisons)} arrays, "
            f"worst {worst.kind} {worst.name} {worst.error:.1e} > {worst.tolerance:.1e}"
        )
    return "  ".join([name, *columns, verdict]), not failed


def _worst_of(comparisons: Sequence[Comparison], kind: str) -> str:
    chosen = [c for c in comparisons if c.kind == kind]
    if not chosen:
        return "-"
    worst = max(chosen, key=_severity)
    return f"{worst.error:.1e} (limit {worst.tolerance:.1e})"


def _severity(comparison: Comparison) -> float:
    """Return error over tolerance, with NaN as the worst of all."""
    if np.isnan(comparison.error):
        return float("inf")
    return comparison.error / max(comparison.tolerance, np.finfo(np.float64).tiny)


def main(arguments: Sequence[str]) -> int:
    """Check the files named on the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.check_goldens", description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_DIR")
    try:
        files = golden_files(parser.parse_args(arguments).paths)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    with jax.default_matmul_precision("highest"):
        results = [_print_and_pass(path) for path in files]
    print(f"{sum(results)} of {len(results)} files pass")
    return 0 if all(results) else 1


def _print_and_pass(path: Path) -> bool:
    line, passed = check_file(path)
    print(line, flush=True)
    return passed


if __name__ == "__main__":
    signals.install("interrupted; run the same command again")
    sys.exit(main(sys.argv[1:]))
