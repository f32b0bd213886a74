"""The program, read from top to bottom: options, data, model, training, evaluation, report."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.dataset import PDEDataset
from data_pipeline.registry import load_dataset
from experiments import cli, figures, report, workdir
from experiments.errors import UserError
from experiments.options import check_options
from experiments.training import hosts
from experiments.training.evaluate import make_predictor
from experiments.training.loop import Setup, build_setup, open_checkpoints, train
from experiments.training.mesh import Mesh, make_mesh
from experiments.training.records import read_log
from experiments.training.state import TrainState
from experiments.training.task import mean_predictor_error, regression_task
from flare_jax import params as model_params
from flare_jax.models.registry import build_model

FLAGS = flags.FLAGS


def main() -> None:
    """Run the mode that the flags ask for."""
    _join_other_hosts()
    config, folder = _config_and_folder()
    if FLAGS.data_dir is not None:
        config.data.dir = FLAGS.data_dir
    check_options(config, cli.overrides())
    mesh = make_mesh(config.mesh.data, config.mesh.points)
    _check_model(config)
    if FLAGS.mode == "train":
        with hosts.main_first("workdir"):
            workdir.prepare(folder, config, cli.overrides())
    with hosts.main_first("data"):
        dataset = load_dataset(config.data.name, Path(config.data.dir), **_data_options(config), say=hosts.say)
    data_record = {**vars(dataset.source), "fingerprint": dataset.fingerprint()}
    hosts.say(f"{config.data.name}: {len(dataset.train)} training samples, {dataset.source.describe()}")
    if FLAGS.mode == "eval":
        _warn_of_other_data(folder, data_record)
    elif hosts.is_main():
        workdir.record(folder, "data", data_record)
    with jax.default_matmul_precision(
        None if config.train.matmul_precision == "default" else config.train.matmul_precision
    ):
        summaries = {seed: _run_seed(config, seed, folder, dataset, data_record, mesh) for seed in config.train.seeds}
    if len(summaries) > 1:
        _report_seeds(folder, summaries)


def _join_other_hosts() -> None:
    if FLAGS.coordinator_address is not None:
        jax.distributed.initialize(FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id)


def _config_and_folder() -> tuple[ConfigDict, Path]:
    """Return the configuration and the run's folder; evaluation reads the former from the latter."""
    if FLAGS.mode == "eval":
        if FLAGS.workdir is None:
            raise UserError("--mode=eval needs --workdir=FOLDER, the folder of a run")
        if FLAGS.config is not None:
            raise UserError("--mode=eval takes the config from the workdir; leave --config out")
        config = workdir.load_run_config(Path(FLAGS.workdir))
        if config.mesh.data * config.mesh.points > jax.device_count():
            hosts.say(f"evaluating on one device of {jax.device_count()}; the run was trained on more")
            config.mesh.data = config.mesh.points = 1
        return config, Path(FLAGS.workdir)
    if FLAGS.config is None:
        raise UserError("--config=FILE is missing; for example --config=configs/flare_elas.py")
    if FLAGS.step is not None:
        raise UserError(f"--step={FLAGS.step} chooses a checkpoint to evaluate; it goes with --mode=eval")
    config = ConfigDict(FLAGS.config.to_dict())
    return config, Path(FLAGS.workdir or Path("out") / config.name)


def _check_model(config: ConfigDict) -> None:
    """Trace the model on a nominal shape, without arrays, so that bad options are reported before any data is read."""

    def forward() -> jax.Array:
        graphdef, params = model_params.split(_build_model(config, 2, 1, 0))
        return model_params.apply_fn(graphdef)(params, jnp.zeros((1, 64, 2)))

    jax.eval_shape(forward)


def _build_model(config: ConfigDict, c_in: int, c_out: int, seed: int) -> nnx.Module:
    options = {name: value for name, value in config.model.items() if name != "type"}
    with contextlib.suppress(KeyError, ValueError):
        options["attn_scale"] = float(options["attn_scale"])  # the command line gives 'one', 'sqrt' or a number as text
    if config.mesh.data * config.mesh.points != 1:
        # XLA splits these over devices by itself, as it cannot split a GPU kernel.
        for name, plain in (("implementation", "xla"), ("mlp_implementation", "reference")):
            if name in options and options[name] is None:
                options[name] = plain
    return build_model(config.model.type, c_in, c_out, options, rngs=nnx.Rngs(seed), dtype=config.train.dtype)


def _data_options(config: ConfigDict) -> dict[str, Any]:
    names = ("source", "num_generate", "generate_seed", "n_train", "n_test")
    return {name: config.data[name] for name in names}


def _warn_of_other_data(folder: Path, data_record: Mapping[str, Any]) -> None:
    trained_on = workdir.read_config_file(folder).get("data", {}).get("fingerprint")
    if trained_on != data_record["fingerprint"]:
        hosts.say(f"warning: the data in {data_record['path']} is not what this run was trained on")


def _run_seed(
    config: ConfigDict, seed: int, folder: Path, dataset: PDEDataset, data_record: Mapping[str, Any], mesh: Mesh
) -> dict[str, Any]:
    """Train or restore one seed, evaluate it and write its report; return the content of its eval.json."""
    if len(config.train.seeds) > 1:
        folder = folder / f"seed_{seed}"
        folder.mkdir(exist_ok=True)
        hosts.say(f"seed {seed}")
    graphdef, params = model_params.split(_build_model(config, dataset.c_in, dataset.c_out, seed))
    task = regression_task(dataset, model_params.apply_fn(graphdef), points_multiple=mesh.points)
    setup = build_setup(task, params, config, seed, mesh)
    if FLAGS.mode == "train":
        state = train(setup, config, folder)
        file = "eval.json"
    else:
        state = _restore(setup, config, folder)
        file = "eval.json" if FLAGS.step is None else f"eval_step_{FLAGS.step}.json"
    results = report.evaluate_all(setup, state)
    baselines = {
        f"{name}/{task.headline}_mean_predictor": mean_predictor_error(dataset, split)
        for name, split in {**dataset.tests, "train": dataset.train}.items()
    }
    summary = {
        **report.summarize(results, config.eval.weights, baselines),
        "step": int(state.step),
        "seed": seed,
        "parameters": model_params.count_parameters(params),
        "data": dict(data_record),
    }
    if hosts.is_main():
        report.write_eval(folder, file, summary)
        report.write_per_case(folder / "per_case.csv", results)
    if config.figures:
        _draw(setup, config, state, dataset, results, summary, folder)
    hosts.say("\n".join(report.result_lines(summary, task.headline)))
    return summary


def _restore(setup: Setup, config: ConfigDict, folder: Path) -> TrainState:
    """Return the newest readable state, or exactly the one that --step names."""
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"{folder} holds no checkpoints; train first, with the same --workdir")
    checkpoints = open_checkpoints(setup, config, folder, read_only=True)
    steps = checkpoints.steps()
    if FLAGS.step is not None and FLAGS.step not in steps:
        raise UserError(f"--step={FLAGS.step} is not among the checkpoints {steps} in {folder / 'checkpoints'}")
    if FLAGS.step is not None:
        return checkpoints.restore(setup.template, FLAGS.step)
    state = checkpoints.restore_latest(setup.template, hosts.say)
    if state is None:
        raise UserError(f"{folder / 'checkpoints'} holds no complete checkpoint; train first, with the same --workdir")
    return state


def _draw(
    setup: Setup,
    config: ConfigDict,
    state: TrainState,
    dataset: PDEDataset,
    results: Mapping[str, Any],
    summary: Mapping[str, Any],
    folder: Path,
) -> None:
    """Draw the learning curve and three test cases into figures/."""
    metric, weights = setup.task.headline, config.eval.weights
    log = read_log(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
    if hosts.is_main() and any(line["event"] == "train" for line in log):
        curve = figures.learning_curve(log, metric, summary[f"test/{metric}_mean_predictor"])
        figures.save(curve, folder / "figures" / "learning_curve.png")
    predict = make_predictor(setup.task, setup.mesh)
    params = setup.weights(state)[weights]
    for name, split in dataset.tests.items():
        arrays = setup.mesh.place_dataset(setup.task.tests[name])
        errors = results[name][weights][metric]
        for label, case in figures.chosen_cases(errors).items():
            real = np.ones(split.x.shape[1], bool) if split.mask is None else split.mask[case]
            prediction = predict(params, arrays, case)[: split.x.shape[1]]  # on all processes: they share the work
            if not hosts.is_main():
                continue
            figure = figures.case_figure(
                f"{name} case {case} ({label}): relative L2 {errors[case]:.2e}",
                dataset.positions(split)[case][real],
                split.y[case, real, 0],
                prediction[real, 0],
                dataset.target_name,
            )
            figures.save(figure, folder / "figures" / f"{name}_{label}.png")


def _report_seeds(folder: Path, summaries: Mapping[int, Mapping[str, Any]]) -> None:
    combined = report.combine_seeds(summaries)
    if hosts.is_main():
        report.write_eval(folder, "eval.json", combined)
    for name, value in combined.items():
        if name.endswith("/rel_l2"):
            hosts.say(f"{name} over seeds {combined['seeds']}: {value['mean']:.4e} ± {value['std']:.1e}")
