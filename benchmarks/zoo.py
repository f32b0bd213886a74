"""How large and how fast is every model of the zoo, and how well does it learn in a short time? Run on a GPU:

    python -m benchmarks.zoo --output=out/zoo.json
    python -m benchmarks.zoo --output=out/zoo.json --epochs=20 --data_dir=data

For each model type the configuration `configs/pde.py:model=<type>,data=elasticity` at full size: parameters, and the
median time of its own training step (972 points, the batch of its recipe). With --epochs all are trained for that many
epochs of the elasticity set, with the recipe's schedule fitted into them, and tested; the step time is then that of
this training. Results are written after every model, and a second call with the same --output measures only what is
missing. --seconds limits a call.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from benchmarks.command import check_gpu, check_output, exit_status, names_in
from benchmarks.timing import device_line, markdown_table, write_results
from benchmarks.train_step import random_dataset, setup_of, time_jax
from configs import pde
from configs.common import update
from data_pipeline.dataset import PDEDataset
from data_pipeline.files import read_json
from data_pipeline.registry import load_dataset
from experiments.pdebench import models
from experiments.training.loop import train
from experiments.training.records import read_log
from experiments.training.tasks.baselines import baseline_error
from flare_jax.models.registry import MODELS
from flare_jax.params import count_parameters, split
from runtime.command import Parser, integer, seconds

DATA = "elasticity"
# Its points have no mesh, along whose edges some models send messages.
COMPARED = tuple(name for name in MODELS if not models.takes_edges(name))
# Of the parameters at the end of the short run: an average of them looks back further than it lasts.
WEIGHTS = "raw"

Row = dict[str, Any]


def recipe_config(model_type: str, smoke: bool) -> ConfigDict:
    """Return the model's configuration on elasticity, of one block and few samples if `smoke`."""
    config = pde.get_config(f"model={model_type},data={DATA}" + (",smoke" if smoke else ""))
    if smoke:
        update(config.data, {"n_train": 16, "n_test": 16})
        if "num_blocks" in config.model:
            config.model.num_blocks = 1
    return config


def measure_step(config: ConfigDict, steps: int, repeats: int) -> Row:
    """Return batch size and median milliseconds of a training step, and the seconds of its compilation."""
    seconds, _, compile_seconds = time_jax(config, steps, repeats)
    return {"batch": config.train.batch_size, "step_ms": 1e3 * seconds, "compile_s": compile_seconds}


def train_briefly(config: ConfigDict, dataset: PDEDataset, epochs: int) -> Row:
    """Train for `epochs` epochs and return the test error, the seconds taken, and the figures of `measure_step`."""
    config = ConfigDict(config.to_dict())
    update(config.train, {"epochs": epochs, "ema_decay": 0.0})
    update(config.eval, {"every": epochs, "weights": WEIGHTS})
    update(config.checkpoint, {"every": epochs, "keep_best": 0})
    begin = time.perf_counter()
    setup = setup_of(config, dataset)
    with tempfile.TemporaryDirectory() as folder:
        state = train(setup, config, Path(folder), quiet=True)
        events = read_log(Path(folder) / "metrics.jsonl")
    timing = next(event for event in reversed(events) if event["event"] == "timing")
    row: Row = {"batch": config.train.batch_size, **{name: timing[name] for name in ("step_ms", "compile_s")}}
    errors = setup.evaluate(setup.weights(state)[WEIGHTS], setup.mesh.place_dataset(setup.task.tests["test"]))
    error = float(np.mean(errors[setup.task.headline]))
    return row | {"epochs": epochs, "test_rel_l2": error, "train_s": time.perf_counter() - begin}


def measure(model_type: str, known: Row, options: argparse.Namespace, dataset: PDEDataset | None) -> Row:
    """Return the row of one model, measuring what `known` lacks; a failure is a row with its reason."""
    config = recipe_config(model_type, options.smoke)
    row = dict(known)
    row.pop("error", None)
    try:
        if dataset is not None and row.get("epochs") != options.epochs:
            row |= train_briefly(config, dataset, options.epochs)
        elif "step_ms" not in row:
            row |= measure_step(config, options.steps, options.repeats)
        row["parameters"] = parameter_count(config)
    except Exception as error:  # one model that fails must not lose the others
        row["error"] = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return row


def parameter_count(config: ConfigDict) -> int:
    """Return the number of parameters of the configuration's model, without computing any."""
    dataset = random_dataset(DATA, 2)
    options = models.model_options(config.model, models.data_facts(dataset))
    model = nnx.eval_shape(lambda: models.build(config, options, dataset.c_in, dataset.c_out, 0))
    return count_parameters(split(model)[1])


def table(rows: Mapping[str, Row], epochs: int, baseline: float | None) -> str:
    """Return the rows as a markdown table, with the error of predicting the training mean below it."""
    header = ["model", "parameters", "batch", "ms per step", "ms per sample"]
    header += [f"test relative L2 after {epochs} epochs", "s"] if epochs else []
    lines = [[name, *_cells(row, epochs)] for name, row in rows.items()]
    text = markdown_table(header, lines)
    return text if baseline is None else f"{text}\nPredicting the training mean: {baseline:.3e}.\n"


def _cells(row: Row, epochs: int) -> list[str]:
    if "step_ms" not in row:
        cells = ["-", "-", row.get("error", "not measured"), "-"]
    else:
        per_sample = row["step_ms"] / row["batch"]
        cells = [f"{row['parameters']:,}", str(row["batch"]), f"{row['step_ms']:.2f}", f"{per_sample:.2f}"]
    if not epochs:
        return cells
    if row.get("epochs") != epochs:
        return [*cells, row.get("error", "not measured") if "step_ms" in row else "-", "-"]
    return [*cells, f"{row['test_rel_l2']:.3e}", f"{row['train_s']:.0f}"]


def read_rows(path: str | None) -> dict[str, Row]:
    """Return the rows that an earlier call wrote, none where there is no file."""
    if not path or not Path(path).exists():
        return {}
    content = read_json(Path(path))
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise ValueError(f"{path} holds no results of this benchmark; name another --output")
    return rows


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = Parser(prog="python -m benchmarks.zoo", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=names_in, default=COMPARED, help="model types, separated by commas")
    parser.add_argument("--steps", type=integer(1), default=100, help="optimizer steps per measurement")
    parser.add_argument("--repeats", type=integer(1), default=5, help="measurements; the median is reported")
    parser.add_argument("--epochs", type=integer(0), default=0, help="train every model for so many epochs and test it")
    parser.add_argument("--data_dir", default="data", help="folder of the elasticity files, generated if missing")
    parser.add_argument("--output", help="JSON file of the results, continued if it exists")
    parser.add_argument("--seconds", type=seconds, default=540.0, help="begin no further model after so many seconds")
    parser.add_argument("--smoke", action="store_true", help="small networks on few samples, for a test on a CPU")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in COMPARED]
    if unknown or not options.models:
        name = (*unknown, "")[0]
        problem = f"needs a mesh, which {DATA} has not" if name in MODELS else "is not known"
        parser.error(f"model {name!r} {problem}; choose among {', '.join(COMPARED)}")
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure the models one after the other and print the table."""
    options = parse(arguments)
    check_output(options.output)
    rows = read_rows(options.output)
    if not options.smoke:
        check_gpu("--smoke")
    begin = time.monotonic()
    print(f"{DATA}, {device_line()}", flush=True)
    dataset, baseline = None, None
    if options.epochs:
        section = recipe_config("flare", options.smoke).data
        sizes = {name: section[name] for name in ("num_generate", "n_train", "n_test")}
        dataset = load_dataset(DATA, Path(options.data_dir), source="auto", **sizes)
        baseline = baseline_error(dataset, dataset.tests["test"])
        print(dataset.source.describe(), flush=True)
    for model_type in options.models:
        if time.monotonic() - begin > options.seconds:
            print(f"{options.seconds:.0f} s are over: call again with the same --output for the rest", flush=True)
            break
        rows[model_type] = measure(model_type, rows.get(model_type, {}), options, dataset)
        print(" ".join([model_type, *_cells(rows[model_type], options.epochs)]), flush=True)
        write_results(options.output, {"data": DATA, "rows": rows})
    print(table({name: rows[name] for name in MODELS if name in rows}, options.epochs, baseline))
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
