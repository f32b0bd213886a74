"""What do training and decoding of language models cost, with causal FLARE and with what people use? Run on a GPU:

    python -m benchmarks.causal_lm
    python -m benchmarks.causal_lm --size=tiny --models=recommended,transformer --contexts=1024 --decode_contexts=1024
    python -m benchmarks.causal_lm --output=out/lm.json --resume --minutes=8          (goes on where the time was over)

Trains as `experiments.lm` does, on random tokens, about the same number of tokens per step at every context. Decoding
is a compiled burst of greedy steps from a state that stands at the context: what a state holds does not change the
time. Its memory is the state of all rows, and the peak that the compiler plans for the burst, parameters included. What
does not fit into the memory of the device has no figure. The first model is the one that the others are compared with.
`transformer_cudnn` decodes with the fused kernel reading the cache. Every figure is written at once, and --resume
measures what the file lacks; a measurement that failed is made again.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.command import check_output
from benchmarks.options import check_device, define_any_device, define_counts
from benchmarks.timing import device_line, print_table, write_results
from configs import lm
from data_pipeline.dataset import Source
from experiments import cli
from experiments.errors import UserError
from experiments.lm import models
from experiments.lm.data import LanguageData
from experiments.lm.task import language_task
from experiments.training.device_source import DeviceSource
from experiments.training.mesh import make_mesh
from experiments.training.setup import Setup, build_setup
from flare_jax import params as model_params
from flare_jax.checks import check_choice
from flare_jax.models.language import SIZES
from runtime.json_files import read_object

FLAGS = flags.FLAGS
MODELS = ("recommended", "published", "gla", "transformer", "transformer_cudnn")
# What decodes otherwise than it trains: a model of configs/lm.py and options.
VARIANTS = {"transformer_cudnn": ("transformer", {"decode_implementation": "cudnn"})}
PARTS = ("decode", "train")
CONTEXTS, DECODE_CONTEXTS, BATCHES = (1024, 8192, 32_768), (1024, 16_384, 131_072), (1, 32)
_VOCABULARY = 256
_TEXT = "text.txt"


def configuration(model: str, size: str, context: int, batch_size: int, steps: int) -> Any:
    """Return the configuration of a run on rows of `context` tokens."""
    model, options = VARIANTS.get(model, (model, {}))
    config = lm.get_config(f"model={model},size={size}")
    config.model.update(options)
    config.data.path, config.data.length = _TEXT, context
    config.train.update({"batch_size": batch_size, "steps": steps, "dtype": FLAGS.dtype})
    return config


def random_data(context: int, rows: int) -> LanguageData:
    """Return rows of random bytes."""
    tokens = np.random.default_rng(0).integers(1, 256, (rows, context), dtype=np.uint8)
    labels = np.full(rows, context, np.int32)
    arrays = {"tokens": tokens, "next": tokens[:, 0], "labels": labels, "bytes": labels.astype(np.float32)}
    test = {name: value[:1] for name, value in arrays.items()}
    return LanguageData(arrays, {"test": test}, "test", _VOCABULARY, Source("generated", "memory"), "")


def setup_of(config: Any, data: LanguageData) -> Setup:
    """Return the training set-up of a config on one device, as `experiments.lm` makes it."""
    graphdef, params = model_params.split(models.build(config, data.vocab_size, 0))
    names = model_params.matrix_names(graphdef, params)
    return build_setup(language_task(data, graphdef, config), params, config, 0, make_mesh(1, 1), names)


def train(model: str, size: str, context: int) -> dict[str, Any]:
    """Return time and memory of the training step of a model."""
    batch, steps = max(1, FLAGS.tokens_per_step // context), FLAGS.steps
    config, data = configuration(model, size, context, batch, steps), random_data(context, batch * steps)
    setup = setup_of(config, data)
    source, state, times = DeviceSource(setup, config), setup.template, []
    for _ in range(FLAGS.repeats + 1):
        state, _, seconds = source(state, 0, steps)
        times.append(seconds / steps)
    step = statistics.median(times[1:])
    return {
        "parameters": setup.packing.count,
        "batch": batch,
        "step_ms": 1e3 * step,
        "tokens_per_s": batch * context / step,
        "temporary_gib": (source.temporary_bytes() or 0) / 2**30,
    }


def decode(model: str, size: str, context: int, batch: int) -> dict[str, Any]:
    """Return time and memory of decoding `batch` rows at a context."""
    config, burst = configuration(model, size, context, batch, 1), FLAGS.burst
    graphdef, params = model_params.split(models.build(config, _VOCABULARY, 0))
    params = {name: value.astype(FLAGS.dtype) if value.ndim > 1 else value for name, value in params.items()}
    calls = FLAGS.repeats + 1

    def start() -> Any:
        state = model_params.merge(graphdef, params).init_state(batch, context + calls * burst)

        def here() -> jax.Array:  # several arrays: those that are donated must not be one
            return jnp.full(batch, context, jnp.int32)

        mixers = tuple(x._replace(length=here()) if hasattr(x, "length") else x for x in state.mixers)
        return state._replace(position=here(), mixers=mixers)

    def run(params: Any, state: Any, ids: jax.Array) -> tuple[Any, jax.Array]:
        def step(carry: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], None]:
            state, ids = carry
            logits, state = model_params.merge(graphdef, params).decode_step(ids, state)
            return (state, jnp.argmax(logits, axis=-1).astype(jnp.int32)), None

        return jax.lax.scan(step, (state, ids), None, burst)[0]

    state, ids = start(), jnp.ones(batch, jnp.int32)
    held = sum(value.nbytes for value in jax.tree.leaves(state))
    compiled = jax.jit(run, donate_argnums=1).lower(params, state, ids).compile()
    plan, times = compiled.memory_analysis(), []
    for _ in range(calls):
        begin = time.perf_counter()
        state, ids = jax.block_until_ready(compiled(params, state, ids))
        times.append((time.perf_counter() - begin) / burst)
    peak = None if plan is None else plan.argument_size_in_bytes + plan.temp_size_in_bytes
    return {
        "token_ms": 1e3 * statistics.median(times[1:]),
        "state_mib": held / 2**20,
        "peak_gib": None if peak is None else peak / 2**30,
    }


def measured(call: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return the figures of a call, or what it failed with; nothing where the device's memory is too small."""
    try:
        return call(*arguments)
    except jax.errors.JaxRuntimeError as error:
        return {} if "RESOURCE_EXHAUSTED" in str(error) else _failed(error)
    except Exception as error:  # of one form on one device; the others are measured nevertheless
        return _failed(error)


def _failed(error: Exception) -> dict[str, Any]:
    return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


@dataclass
class Results:
    """What is measured, kept in a file: with `resume` also what the file had."""

    path: str | None
    kind: dict[str, str]
    rows: list[dict[str, Any]]

    @classmethod
    def begin(cls, path: str | None, kind: dict[str, str], resume: bool) -> "Results":
        """Return the results of a file, none without `resume`; raises UserError for those of something else."""
        if not (resume and path and Path(path).is_file()):
            return cls(path, kind, [])
        found = read_object(Path(path))
        other = {name: found.get(name) for name in kind}
        if other != kind:
            raise UserError(f"--output={path} holds measurements of {other}, not of {kind}; name another file")
        return cls(path, kind, [row for row in found["results"] if "failed" not in row])

    def of(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the row of a key, None where it is not measured."""
        return next((row for row in self.rows if key.items() <= row.items()), None)

    def add(self, key: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """Keep a row, also in the file, and return it."""
        self.rows.append({**key, **result})
        write_results(self.path, {**self.kind, "results": self.rows})
        return self.rows[-1]


def _numbers(name: str) -> list[int]:
    values = FLAGS[name].value
    if not all(text.isdecimal() and 1 <= int(text) <= 2**24 for text in values):
        raise UserError(f"--{name}={','.join(values)} must be numbers of at least 1, such as 1024,8192")
    return [int(text) for text in values]


def _cell(result: dict[str, Any], name: str, form: str = ".3g") -> str:
    value = result.get(name)
    return "-" if value is None else format(value, form)


def wanted() -> list[dict[str, Any]]:
    """Return the keys of all measurements that the flags ask for, in their order."""
    keys: list[dict[str, Any]] = []
    contexts, decode_contexts, batches = map(_numbers, ("contexts", "decode_contexts", "batches"))
    for part in FLAGS.parts:
        if part == "train":
            models = [model for model in FLAGS.models if model not in VARIANTS]
            keys += [{"part": part, "context": n, "model": model} for n in contexts for model in models]
        else:
            places = [(n, batch) for batch in batches for n in decode_contexts]
            keys += [
                {"part": part, "context": n, "batch": batch, "model": model}
                for n, batch in places
                for model in FLAGS.models
            ]
    return keys


def measure(key: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one measurement."""
    if key["part"] == "train":
        return measured(train, key["model"], FLAGS.size, key["context"])
    return measured(decode, key["model"], FLAGS.size, key["context"], key["batch"])


def print_tables(results: Results) -> None:
    """Print what is measured as two tables."""
    first = {row["context"]: row.get("tokens_per_s") for row in results.rows if row["model"] == FLAGS.models[0]}
    rows: dict[str, list[tuple[str, ...]]] = {part: [] for part in PARTS}
    for row in results.rows:
        cells = [str(row[name]) for name in ("context", "batch", "model") if name in row and row["part"] == "decode"]
        if row["part"] == "train":
            rate, other = row.get("tokens_per_s"), first.get(row["context"])
            ratio = f"{rate / other:.2f}x" if rate and other else "-"
            cells = [str(row["context"]), row["model"], _cell(row, "step_ms"), _cell(row, "tokens_per_s"), ratio]
            rows["train"].append((*cells, _cell(row, "temporary_gib")))
        else:
            names = ("token_ms", "state_mib", "peak_gib")
            rows["decode"].append((*cells, *(_cell(row, name) for name in names)))
    print_table(("context", "batch", "model", "ms/token", "state MiB", "peak GiB"), rows["decode"])
    print_table(("context", "model", "ms/step", "tokens/s", f"of {FLAGS.models[0]}", "temporary GiB"), rows["train"])


def main() -> None:
    """Measure decoding and training of all models, write every figure at once and print two tables."""
    check_output(FLAGS.output)
    for part in FLAGS.parts:
        check_choice("a part of --parts", part, PARTS)
    for model in FLAGS.models:
        check_choice("a model of --models", model, {**lm.MODELS, **VARIANTS})
    check_choice("--size", FLAGS.size, SIZES)
    if FLAGS.resume and not FLAGS.output:
        raise UserError("--resume goes on with the file of --output; name it")
    keys = wanted()
    check_device()
    results = Results.begin(FLAGS.output, {"size": FLAGS.size, "dtype": FLAGS.dtype}, FLAGS.resume)
    print(f"size {FLAGS.size}, dtype {FLAGS.dtype}, {device_line()}", flush=True)
    until = time.monotonic() + (math.inf if FLAGS.minutes is None else 60 * FLAGS.minutes)
    for key in keys:
        if results.of(key) is not None:
            continue
        if time.monotonic() > until:
            left = sum(results.of(key) is None for key in keys)
            print(
                f"the time is over with {left} measurements to do; the same command with --resume goes on", flush=True
            )
            break
        row = results.add(key, measure(key))
        print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    print_tables(results)


if __name__ == "__main__":
    flags.DEFINE_list(
        "models", list(MODELS), f"Models of configs/lm.py, or variants: {', '.join([*lm.MODELS, *VARIANTS])}."
    )
    flags.DEFINE_list("parts", list(PARTS), f"What is measured, in this order: {', '.join(PARTS)}.")
    flags.DEFINE_bool("resume", False, "Keep what the file of --output has.")
    flags.DEFINE_float("minutes", None, "After so long no measurement begins any more.", lower_bound=0.01)
    flags.DEFINE_string("size", "15M", f"One of {', '.join(SIZES)}.")
    flags.DEFINE_list("contexts", [str(x) for x in CONTEXTS], "Tokens of a row in training.")
    flags.DEFINE_list("decode_contexts", [str(x) for x in DECODE_CONTEXTS], "Tokens before those that are decoded.")
    flags.DEFINE_list("batches", [str(x) for x in BATCHES], "Rows that are decoded at once.")
    define_counts(
        tokens_per_step=(131_072, "Tokens of a training batch, as far as whole rows allow."),
        steps=(10, "Optimizer steps per measurement."),
        burst=(64, "Tokens that are decoded per measurement."),
        repeats=(3, "Measurements; the median is reported."),
    )
    flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Of the computation.")
    define_any_device()
    flags.DEFINE_string("output", None, "JSON file for the results.")
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    cli.run(main)
