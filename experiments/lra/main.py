"""The program, read from top to bottom: options, data, model, training, evaluation, report."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.sequence.dataset import SequenceDataset
from data_pipeline.sequence.registry import find_task, load_task
from experiments import converted, program, workdir
from experiments import report as shared_report
from experiments.figures import save
from experiments.lra import figures, models, report
from experiments.lra.options import check_lra_options
from experiments.lra.original import token_warning
from experiments.lra.task import classification_task, recursive_task
from experiments.seeds import Seeds, Trained, finish_seeds
from experiments.training import hosts
from experiments.training.classification import averaged_logits
from experiments.training.ensemble import evaluate_average, means_of
from experiments.training.initial import started
from experiments.training.mesh import Mesh, make_mesh
from experiments.training.packing import Params
from experiments.training.records import read_log
from experiments.training.setup import Setup, build_setup
from flare_jax import params as model_params
from flare_jax.convert.starting import StartingWeights


def main() -> None:
    """Run the mode that the flags ask for."""
    program.join_other_hosts()
    run(program.read_request("lra", "configs/lra.py:task=listops,model=flare"))


def run(request: program.Request) -> None:
    """Check everything that can be checked, load the data, and train or evaluate every seed."""
    config = request.config
    check_lra_options(config, request.given)
    models.check_mesh(config)
    mesh = make_mesh(config.mesh.data, config.mesh.points)
    models.check_model(config)
    with program.held(request):
        _run(request, mesh)


def _run(request: program.Request, mesh: Mesh) -> None:
    """Load the data, and train or evaluate every seed."""
    config, folder = request.config, request.folder
    start = program.read_start(request)
    if request.mode == "train":
        with hosts.main_first("workdir"):
            workdir.prepare(folder, config, request.given)
    with hosts.main_first("data"):
        dataset = _load(config, program.asked_of_generator(request))
    hosts.say(f"{config.data.name}: {len(dataset.train)} training samples, {dataset.source.describe()}")
    if request.mode == "time":
        with program.matmul_precision(config):
            program.report_costs(_set_up(config, dataset, mesh), request)
        return
    data_record = {**vars(dataset.source), "fingerprint": dataset.fingerprint()}
    if converted.is_converted(folder) and (warning := token_warning(dataset)):
        hosts.say(warning)
    request = program.record_data(request, config.data.name, data_record, start)
    with program.matmul_precision(config):
        setup = _set_up(config, dataset, mesh, start)
        seeds = Seeds(request, setup, lambda seed: _begin(config, dataset, seed, start)[1])
        summaries = {trained.seed: _report_seed(request, setup, trained, dataset, data_record) for trained in seeds}
        finish_seeds(request, seeds, summaries, setup.task.headline, report.spread, partial(_ensemble, setup))


def _load(config: ConfigDict, asked: Collection[str]) -> SequenceDataset:
    shared = ("source", "num_generate", "generate_seed", "n_train", "n_test")
    return load_task(
        config.data.name,
        Path(config.data.dir),
        **{name: config.data[name] for name in shared},
        # A run of an earlier version may lack options that were added since.
        options={name: config.data[name] for name in find_task(config.data.name).options if name in config.data},
        asked=asked,
        say=hosts.say,
    )


def _begin(
    config: ConfigDict,
    dataset: SequenceDataset,
    seed: int,
    start: StartingWeights | None,
    say: hosts.Say = hosts.silent,
) -> tuple[nnx.GraphDef, Params]:
    """Return the structure of the model and the parameters that the training of a seed begins with."""
    facts = models.task_facts(dataset)
    graphdef, params = model_params.split(models.build(config, facts, seed))
    if start is not None:
        params = started(params, start, config, lambda: models.width_names(config, facts), say)
    return graphdef, params


def _set_up(config: ConfigDict, dataset: SequenceDataset, mesh: Mesh, start: StartingWeights | None = None) -> Setup:
    """Return the set-up of the first seed."""
    seed = config.train.seeds[0]
    graphdef, params = _begin(config, dataset, seed, start, hosts.say)
    make_task = recursive_task if config.model.type == models.RECURSIVE else classification_task
    task = make_task(dataset, graphdef, config)
    return build_setup(task, params, config, seed, mesh, model_params.matrix_names(graphdef, params))


def _report_seed(
    request: program.Request,
    setup: Setup,
    trained: Trained,
    dataset: SequenceDataset,
    data_record: Mapping[str, Any],
) -> dict[str, Any]:
    """Evaluate a seed and write its report; return the content of its eval.json."""
    config, task, state, folder = request.config, setup.task, trained.state, trained.folder
    results = shared_report.evaluate_all(setup, state, config.eval.train_samples)
    confusions = report.confusions(setup, setup.weights(state)[config.eval.weights], dataset, setup.eval_batch_size)
    lengths = {
        name: report.by_length(split, results[name][config.eval.weights], task.headline)
        for name, split in dataset.tests.items()
    }
    summary = {
        **shared_report.summarize(
            results,
            config.eval.weights,
            report.baselines(dataset, task.headline, config.eval.train_samples),
            task.weighted_by,
        ),
        **{f"{name}/confusion": counts.tolist() for name, counts in confusions.items()},
        **{f"{name}/by_length": rows for name, rows in lengths.items()},
        "headline": task.headline,
        "step": int(state.step),
        "seed": trained.seed,
        "parameters": setup.packing.count,
        "data": dict(data_record),
    }
    hosts.say("\n".join(report.result_lines(summary, task.headline)))
    with program.writing(request):
        if hosts.is_main():
            shared_report.write_eval(folder, trained.file, summary)
            details = request.details(folder)
            shared_report.write_per_case(details / "per_case.csv", results)
            if config.figures:
                _draw(setup, dataset, summary, folder, details / "figures")
    return summary


def _ensemble(setup: Setup, members: Sequence[Params]) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    """Return what `finish_seeds` wants of the mean over seeds of the predicted probabilities."""
    results = evaluate_average(setup, members, averaged_logits)
    return means_of(results, setup.task.weighted_by), {}, []


def _draw(setup: Setup, dataset: SequenceDataset, summary: Mapping[str, Any], folder: Path, output: Path) -> None:
    """Draw the learning curves of the run in `folder`, the confusion matrices and the accuracy by length."""
    metric, split = setup.task.headline, setup.task.selection
    log = read_log(folder / "metrics.jsonl", hosts.say)
    if any(line["event"] == "train" for line in log):
        curves = figures.learning_curves(log, split, metric, summary[f"{split}/{metric}_majority"])
        save(curves, output / "learning_curves.png")
    for name in dataset.tests:
        title = f"{dataset.name}, {name}: {metric.replace('_', ' ')} {report.percent(summary[f'{name}/{metric}'])}"
        counts = np.array(summary[f"{name}/confusion"])
        save(figures.confusion_figure(counts, dataset.label_names, title), output / f"{name}_confusion.png")
    rows = {name: summary[f"{name}/by_length"] for name in dataset.tests}
    if any(len(ranges) > 1 for ranges in rows.values()):
        save(figures.length_figure(rows, metric), output / "accuracy_by_length.png")
