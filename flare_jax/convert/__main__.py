"""Convert checkpoints from and to the PyTorch original.

    python -m flare_jax.convert CHECKPOINT --config=config.yaml --out=WORKDIR
    python -m flare_jax.convert WORKDIR --to-torch --out=FILE

The first form reads a checkpoint (.pt), or a state_dict (.npz, .safetensors), of the original with the config.yaml that
the original wrote beside it, and writes a folder that `python -m experiments.pdebench --mode=eval --workdir=WORKDIR`
evaluates, or `python -m experiments.lra` in the same way for a model of token sequences. Where keys are missing,
unmatched or misshapen, all of them are listed and nothing is written.

The second form writes the weights of a run, or of a converted folder, as the original loads them: a .pt with raw and
averaged weights, or one set as .npz or .safetensors: the one that the run reports (its option eval.weights), or that
of --weights. PyTorch is needed for .pt alone.

The random features of performer are in no checkpoint of the original, although they belong to its weights: add them to
the state_dict as blocks.0.att.proj_matrix and so on, or draw new ones, with which the model predicts something else.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flare_jax.checks import check_seed
from flare_jax.convert.descriptions import (
    Description,
    SequenceDescription,
    abstract_parameters,
    draw_unsaved,
    unsaved_names,
)
from flare_jax.convert.folder import ConvertedModel, check_vacant, write_converted
from flare_jax.convert.mappings import TORCH_MAPPINGS, is_unsaved
from flare_jax.convert.original_config import describe_model, read_original_config
from flare_jax.convert.runs import read_run
from flare_jax.convert.state_dict import StateDictMismatch, from_torch, strip_prefixes, to_torch
from flare_jax.convert.torch_files import find_writer, read_snapshot, write_state_dict
from flare_jax.convert.unused import with_unused_entries
from flare_jax.params import count_parameters
from runtime.command import Parser, sentence
from runtime.files import file_digest

EXIT_USER_ERROR = 2


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status; expected errors are one sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        print(_export(options) if options.to_torch else _import(options))
    except StateDictMismatch as error:
        print(f"error: {error}", file=sys.stderr)
        for kind, keys in error.problems.items():
            print("".join(f"  {kind}: {key}\n" for key in keys), end="", file=sys.stderr)
        return EXIT_USER_ERROR
    except (ValueError, OSError, MemoryError, OverflowError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m flare_jax.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="CHECKPOINT|WORKDIR")
    parser.add_argument("--out", type=Path, required=True, help="new folder, or with --to-torch the file to write")
    parser.add_argument("--config", type=Path, help="config.yaml of the original, or a file with keys model and args")
    parser.add_argument(
        "--random-features", type=int, metavar="SEED", help="draw the random features that a checkpoint lacks"
    )
    parser.add_argument("--to-torch", action="store_true", help="write a state_dict of the original")
    parser.add_argument("--step", type=int, help="with --to-torch: checkpoint to take; by default the newest")
    parser.add_argument(
        "--weights",
        choices=("raw", "ema"),
        help="with --to-torch to .npz or .safetensors: which set; by default the one that the run reports",
    )
    return parser


def _import(options: argparse.Namespace) -> str:
    """Convert a checkpoint of the original; return what to tell the user."""
    for name in ("step", "weights"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}={getattr(options, name)} goes with --to-torch; leave it out")
    if options.config is None:
        raise ValueError("--config=FILE is missing; name the config.yaml that the original wrote beside the checkpoint")
    check_vacant(options.out)
    original = read_original_config(options.config)
    snapshot = read_snapshot(options.source)
    model = describe_model(original, strip_prefixes(snapshot.raw))
    _check_depth(model, len(snapshot.raw))
    sets = {"raw": snapshot.raw} | ({} if snapshot.ema is None else {"ema": snapshot.ema})
    template = abstract_parameters(model) | _random_features(model, sets, options.random_features)
    weights = {name: from_torch(model.model_type, template, state) for name, state in sets.items()}
    _check_finite(options.source, weights)
    source = {"file": options.source.name, "sha256": file_digest(options.source)}
    if options.random_features is not None:
        source["random_features"] = f"drawn anew with seed {options.random_features}"
    write_converted(options.out, ConvertedModel(model, weights, original, source, snapshot.step))
    program = "lra" if isinstance(model, SequenceDescription) else "pdebench"
    return (
        f"{options.out}: {model.label}, {count_parameters(template)} parameters, {' and '.join(sets)} weights; "
        f"evaluate it with python -m experiments.{program} --mode=eval --workdir={options.out}"
    )


def _check_depth(model: Description, entries: int) -> None:
    """Raise ValueError for more layers than the checkpoint has entries, before a model of so many is built."""
    for name, value in model.options.items():
        if name.startswith(("num_blocks", "num_layers")) and isinstance(value, int) and value > entries:
            raise ValueError(
                f"{name} of the config is {value}, but the checkpoint has only {entries} entries; name its own config"
            )


def _random_features(model: Description, sets: Mapping[str, Mapping[str, Any]], seed: int | None) -> Mapping[str, Any]:
    """Return the random features to take where the checkpoint has none: those of `seed`, if one is given."""
    if seed is None:
        return {}
    check_seed("--random-features", seed)
    names = unsaved_names(model)
    if not names:
        raise ValueError(f"--random-features={seed} has no effect on a model without random features; leave it out")
    if all(set(names) <= set(strip_prefixes(state)) for state in sets.values()):
        raise ValueError(f"--random-features={seed} has no effect, for the checkpoint has its own; leave it out")
    return draw_unsaved(model, seed)


def _check_finite(path: Path, weights: Mapping[str, Mapping[str, Any]]) -> None:
    for kind, params in weights.items():
        bad = [name for name, value in params.items() if not np.isfinite(np.asarray(value)).all()]
        if bad:
            raise ValueError(f"{path} holds NaN or infinity in the {kind} weights of {bad[0]}; take another checkpoint")


def _export(options: argparse.Namespace) -> str:
    """Write a state_dict of one of our runs; return what to tell the user."""
    for name, value in (("config", options.config), ("random-features", options.random_features)):
        if value is not None:
            raise ValueError(f"--{name}={value} goes with a checkpoint of the original; leave it out")
    find_writer(options.out)
    if options.out.exists():
        raise ValueError(f"--out={options.out} exists; name a new file")
    run = read_run(options.source, options.step)
    states = {
        kind: with_unused_entries(run.model_type, run.options, to_torch(run.model_type, params))
        for kind, params in run.weights.items()
    }
    both = options.out.suffix in (".pt", ".pth")
    if both and options.weights is not None:
        raise ValueError(f"--weights={options.weights} has no effect on a .pt file, which holds all; leave it out")
    chosen = "raw" if both else run.choose(options.weights, options.source)
    write_state_dict(options.out, states[chosen], states.get("ema") if both else None)
    written = " and ".join(states) if both else chosen
    mapping = TORCH_MAPPINGS[run.model_type]
    # The original draws them itself, so its predictions are others.
    lacking = ", without the random features" if any(is_unsaved(name, mapping) for name in run.weights[chosen]) else ""
    return f"{options.out}: state_dict of {run.model_type}, {len(states[chosen])} entries, {written} weights{lacking}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
