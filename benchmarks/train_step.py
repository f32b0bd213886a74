"""How long is one training step of a FLARE config, and how long in PyTorch? Run on a GPU:

    python -m benchmarks.train_step --config=configs/flare_elas.py

Times the config's own training step (what `experiments.pdebench` runs: scan over steps, gather of the batch, forward,
backward, clip, optimizer, average) on random data of the data set's shape, and in the same run the same network
and optimizer in PyTorch: eager, compiled, and each as one CUDA graph. The ratio of the strongest of these is the one to
quote.
"""

import statistics
from typing import Any

import numpy as np
from absl import flags

from benchmarks.options import check_device, checked_config, define_any_device, define_counts
from benchmarks.timing import device_line, print_table, write_results
from data_pipeline.dataset import PDEDataset, Source, Split
from data_pipeline.normalizer import Normalizer
from data_pipeline.record import DatasetRecord
from data_pipeline.registry import find_record
from experiments import cli, program
from experiments.errors import UserError
from experiments.pdebench import models
from experiments.training.costs import allocator_peak
from experiments.training.device_source import DeviceSource
from experiments.training.mesh import Mesh, make_mesh
from experiments.training.setup import Setup, build_setup
from experiments.training.tasks import build_task, task_options
from experiments.training.tasks.inputs import input_channels
from flare_jax import params as model_params
from flare_jax.models.on_devices import apply_on_devices

FLAGS = flags.FLAGS
_FRAMES = "autoregressive"


def data_shape(name: str, *others: str) -> dict[str, int]:
    """Return the sizes of a sample of data set `name`; raises UserError where random numbers cannot stand for one.

    Beside steady fields there may be data sets of `others`, kinds of tasks.
    """
    record = find_record(name)
    if record.kind not in ("steady", *others) or not record.points:
        raise UserError(f"data set {name} is no set of steady fields of known size; time a config of one that is")
    return {"points": record.points, "c_in": record.c_in, "c_out": record.c_out}


def random_dataset(name: str, samples: int, points: int | None = None) -> PDEDataset:
    """Return random fields of the shape of data set `name`, or on another number of points where it has no grid.

    Data that are predicted frame by frame are random frames.
    """
    record, shape = find_record(name), data_shape(name, _FRAMES)
    grid = record.grid
    if points not in (None, shape["points"]) and grid is not None:
        raise UserError(f"data set {name} is a grid of {shape['points']} points, not of {points}; time another config")
    c_in, c_out, points = shape["c_in"], shape["c_out"], points or shape["points"]
    rng = np.random.default_rng(0)
    if record.kind == _FRAMES:
        return _random_frames(record, rng, samples)
    x = rng.random((samples, points, c_in), np.float32)
    y = rng.random((samples, points, c_out), np.float32) + 0.5
    return PDEDataset(
        name, Split(x, y), {"test": Split(x[:1], y[:1])}, Normalizer.identity(c_in), Normalizer.fit(y),
        Source("generated", ""), "random field", grid,
    )  # fmt: skip


def dataset_of_steps(config: Any, steps: int) -> PDEDataset:
    """Return random data of the config's data set, with samples for so many optimizer steps."""
    train = config.train
    return random_dataset(config.data.name, max(train.batch_size * train.accumulation * steps, 8))


def _random_frames(record: DatasetRecord, rng: np.random.Generator, samples: int) -> PDEDataset:
    history, steps = (record.options[name].default for name in ("history", "steps"))
    x = rng.random((samples, record.points, record.c_in - history), np.float32)
    fx = rng.random((samples, record.points, history), np.float32)
    y = rng.random((samples, record.points, steps, record.c_out), np.float32)
    return PDEDataset(
        record.name,
        Split(x, y, fx=fx),
        {"test": Split(x[:1], y[:1], fx=fx[:1])},
        Normalizer.identity(x.shape[-1]),
        Normalizer.identity(record.c_out),
        Source("generated", ""),
        "random frames",
        record.grid,
        kind=record.kind,
        times=np.arange(steps, dtype=np.float32),
    )


def setup_of(config: Any, dataset: PDEDataset, mesh: Mesh | None = None, seed: int = 0) -> Setup:
    """Return the training set-up of a config, as `experiments.pdebench` makes it; on one device without a mesh."""
    mesh = make_mesh(1, 1) if mesh is None else mesh
    options = models.model_options(config.model, models.data_facts(dataset, mesh.points))
    inputs = models.call_inputs(config.model.type)
    model = models.build(config, options, input_channels(dataset, inputs), dataset.c_out, seed)
    graphdef, params = model_params.split(model)
    task = build_task(dataset, apply_on_devices(graphdef), mesh.points, inputs, task_options(config))
    return build_setup(task, params, config, seed, mesh, model_params.matrix_names(graphdef, params))


def time_steps(
    setup: Setup, config: Any, steps: int, repeats: int
) -> tuple[DeviceSource, float, dict[str, np.ndarray]]:
    """Return what ran the steps, the median seconds of a step, and the metrics of the first `steps` steps."""
    runner = DeviceSource(setup, config)
    state, metrics, _ = runner(setup.template, 0, steps)
    times = []
    for _ in range(repeats):
        state, _, seconds = runner(state, 0, steps)
        times.append(seconds / steps)
    return runner, statistics.median(times), metrics


def time_jax(config: Any, steps: int, repeats: int) -> tuple[float, float | None, float]:
    """Return (median seconds per step, peak GiB, compile seconds) of the config's training step."""
    setup = setup_of(config, dataset_of_steps(config, steps))
    runner, seconds, _ = time_steps(setup, config, steps, repeats)
    peak = allocator_peak()
    return seconds, None if peak is None else peak / 2**30, runner.compile_seconds


def main() -> None:
    """Time both and print one table."""
    config = checked_config("configs/flare_elas.py")
    shape = {"batch": config.train.batch_size, **data_shape(config.data.name, _FRAMES)}
    if FLAGS.torch and find_record(config.data.name).kind == _FRAMES:
        raise UserError(
            f"PyTorch's step is that of steady fields, and data set {config.data.name} has none; add --notorch"
        )
    check_device()
    with program.matmul_precision(config):
        seconds, peak, compile_seconds = time_jax(config, FLAGS.steps, FLAGS.repeats)
    rows = [("flare_jax", seconds, peak)]
    results = {"config": config.name, **shape, "flare_jax_ms": 1e3 * seconds, "compile_s": compile_seconds}
    if FLAGS.torch:
        from benchmarks.torch_flare import VARIANTS, time_training_step
        from benchmarks.torch_timing import release
        from benchmarks.worker import reason

        size = {name: config.model[key] for name, key in TORCH_SIZES.items()}
        numbers = {"dtype": config.train.dtype, "tf32": config.train.matmul_precision == "default"}
        for label, variant in VARIANTS.items():
            try:
                time_and_peak = time_training_step(**shape, **size, **numbers, variant=variant, steps=FLAGS.torch_steps)
            except Exception as error:  # out of memory, a graph that cannot be captured: a line of the report
                print(f"{label}: {reason(error)}", flush=True)
                continue
            finally:
                release()
            rows.append((label, *time_and_peak))
            results[f"{label} ms"] = 1e3 * time_and_peak[0]
    print(f"{config.name}: {shape}, dtype {config.train.dtype}, {device_line()}, compilation {compile_seconds:.0f} s")
    print_table(
        ("implementation", "ms/step (median)", "ratio", "peak GiB"),
        [
            (label, f"{1e3 * time:.3f}", f"{time / seconds:.1f}x", "-" if gib is None else f"{gib:.2f}")
            for label, time, gib in rows
        ],
    )
    write_results(FLAGS.output, results)


TORCH_SIZES = {"channels": "channel_dim", "blocks": "num_blocks", "heads": "num_heads", "latents": "num_latents"}

if __name__ == "__main__":
    cli.define_flags()
    define_counts(
        steps=(200, "Optimizer steps per measurement."),
        repeats=(5, "Measurements; the median is reported."),
        torch_steps=(50, "Steps per PyTorch measurement."),
    )
    flags.DEFINE_bool("torch", True, "Measure the PyTorch baseline too.")
    define_any_device()
    flags.DEFINE_string("output", None, "JSON file for the results.")
    cli.run(main)
