"""How many tokens a second does FLARE train on, and how many a transformer? Run on a GPU:

    python -m benchmarks.sequence_throughput
    python -m benchmarks.sequence_throughput --lengths=1024,4096 --models=flare,transformer,linear --dtype=float32

Times the training step that `experiments.lra` runs (scan over steps, gather of the batch, forward, backward, clip,
optimizer) with the ListOps recipe of each model, on random tokens. All lengths have about the same number of tokens
per step. A model that does not fit into memory has no figure.
"""

import statistics
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks.command import check_output
from benchmarks.options import check_device, define_any_device, define_counts
from benchmarks.timing import device_line, print_table, write_results
from configs import lra
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit
from experiments import cli
from experiments.errors import UserError
from experiments.lra import models
from experiments.lra.task import classification_task
from experiments.training.device_source import DeviceSource
from experiments.training.mesh import make_mesh
from experiments.training.setup import build_setup
from flare_jax import params as model_params
from flare_jax.checks import check_choice
from flare_jax.models.sequence import BACKENDS

FLAGS = flags.FLAGS
# The first model is the one that the others are compared with.
MODELS = ("flare", "transformer")
LENGTHS = (1024, 4096, 16384)


def random_task(length: int, samples: int) -> SequenceDataset:
    """Return random tokens of the vocabulary of ListOps with random labels."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 16, (samples, length), dtype=np.uint8)
    split = TokenSplit(ids, rng.integers(0, 10, samples, dtype=np.int8), np.full(samples, length, np.int32))
    return SequenceDataset("listops", split, {"test": split.first(1)}, 16, 10, length)


def configuration(model: str, batch_size: int, steps: int, dtype: str) -> Any:
    """Return the ListOps recipe of a model for another batch size and number of steps."""
    config = lra.get_config(f"task=listops,model={model}")
    config.train.update({"batch_size": batch_size, "steps": steps, "dtype": dtype})
    config.eval.batch_size = 1
    return config


def seconds_per_step(config: Any, dataset: SequenceDataset, steps: int, repeats: int) -> tuple[float, float, float]:
    """Return the median seconds of a training step, those of its compilation, and its temporary memory in GiB."""
    graphdef, params = model_params.split(models.build(config, models.task_facts(dataset), 0))
    task, matrices = classification_task(dataset, graphdef, config), model_params.matrix_names(graphdef, params)
    setup = build_setup(task, params, config, 0, make_mesh(1, 1), matrices)
    runner = DeviceSource(setup, config)
    state, times = setup.template, []
    for _ in range(repeats + 1):
        state, _, seconds = runner(state, 0, steps)
        times.append(seconds / steps)
    return statistics.median(times[1:]), runner.compile_seconds, (runner.temporary_bytes() or 0) / 2**30


def measure(model: str, length: int, batch_size: int) -> dict[str, Any]:
    """Return the figures of one model at one length; without times where the device's memory is too small."""
    steps = FLAGS.steps
    result: dict[str, Any] = {"model": model, "tokens": length, "batch": batch_size}
    dataset = random_task(length, batch_size * steps)
    try:
        seconds, compilation, temporaries = seconds_per_step(
            configuration(model, batch_size, steps, FLAGS.dtype), dataset, steps, FLAGS.repeats
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return result
    return result | {
        "step_ms": 1e3 * seconds,
        "tokens_per_s": batch_size * length / seconds,
        "compile_s": compilation,
        "temporary_gib": temporaries,
    }


def main() -> None:
    """Time all models at all lengths, write every figure at once and print one table."""
    check_output(FLAGS.output)
    for model in FLAGS.models:
        check_choice("a model of --models", model, BACKENDS)
    wrong = [text for text in FLAGS.lengths if not text.isdecimal() or not 1 <= int(text) <= 2**24]
    if wrong or not FLAGS.lengths or not FLAGS.models:
        raise UserError(
            f"--lengths={','.join(FLAGS.lengths)} --models={','.join(FLAGS.models)} must name at least one model and "
            "one number of tokens, such as 1024"
        )
    check_device()
    print(f"training step, ListOps recipe, dtype {FLAGS.dtype}, {device_line()}", flush=True)
    rows, results = [], []
    for length in map(int, FLAGS.lengths):
        batch_size, first = max(1, FLAGS.tokens_per_step // length), None
        for model in FLAGS.models:
            result = measure(model, length, batch_size)
            rate = result.get("tokens_per_s")
            first = rate if model == FLAGS.models[0] else first
            rows.append((length, batch_size, model, *figures(result, first)))
            print(*rows[-1], flush=True)
            results.append(result)
            write_results(FLAGS.output, {"dtype": FLAGS.dtype, "results": results})
    print_table(("tokens", "batch", "model", "ms/step", "tokens/s", f"of {FLAGS.models[0]}", "temporary GiB"), rows)


def figures(result: dict[str, Any], first: float | None) -> tuple[str, ...]:
    """Return the cells of a row; `first` is the rate that it is compared with, if that was measured."""
    rate = result.get("tokens_per_s")
    if rate is None:
        return "out of memory", "-", "-", "-"
    ratio = f"{rate / first:.2f}x" if first else "-"
    return f"{result['step_ms']:.2f}", f"{rate:.3g}", ratio, f"{result['temporary_gib']:.2f}"


if __name__ == "__main__":
    flags.DEFINE_list("models", list(MODELS), "Backends of the sequence zoo.")
    flags.DEFINE_list("lengths", [str(length) for length in LENGTHS], "Tokens per sample.")
    define_counts(
        tokens_per_step=(65_536, "Tokens in a batch, as far as whole samples allow."),
        steps=(20, "Optimizer steps per measurement."),
        repeats=(5, "Measurements; the median is reported."),
    )
    flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Of the computation.")
    define_any_device()
    flags.DEFINE_string("output", None, "JSON file for the results.")
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    cli.run(main)
