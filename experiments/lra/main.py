"""Classification of token sequences: what is its own to the program (`experiments.experiment`)."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.sequence.dataset import SequenceDataset
from data_pipeline.sequence.registry import find_task, load_task
from experiments import cli, converted, experiment, program
from experiments import report as shared_report
from experiments.figures import save
from experiments.lra import figures, models, report
from experiments.lra.options import check_lra_options
from experiments.lra.original import token_warning
from experiments.lra.task import classification_task, recursive_task
from experiments.program import Request
from experiments.seeds import Trained
from experiments.training import hosts
from experiments.training.classification import averaged_logits
from experiments.training.ensemble import evaluate_average, means_of
from experiments.training.mesh import Mesh
from experiments.training.packing import Params
from experiments.training.records import read_log
from experiments.training.setup import Setup


def main() -> None:
    """Run the mode that the flags ask for."""
    experiment.main(PROGRAM)


def _check_options(request: Request) -> None:
    check_lra_options(request.config, request.given)
    models.check_mesh(request.config)


def _check_model(request: Request, mesh: Mesh) -> None:
    if request.mode in cli.CONFIGURED:  # the model of a run was traced before its training
        models.check_model(request.config)


def _load(request: Request) -> SequenceDataset:
    data = request.config.data
    shared = ("source", "num_generate", "generate_seed", "n_train", "n_test")
    return load_task(
        data.name,
        Path(data.dir),
        **{name: data[name] for name in shared},
        # A run of an earlier version may lack options that were added since.
        options={name: data[name] for name in find_task(data.name).options if name in data},
        asked=program.asked_of_generator(request),
        say=hosts.say,
    )


def _pose(request: Request, dataset: SequenceDataset, mesh: Mesh) -> experiment.Problem:
    config, facts = request.config, models.task_facts(dataset)
    hosts.say(f"{config.data.name}: {len(dataset.train)} training samples, {dataset.source.describe()}")
    if request.mode != "time" and converted.is_converted(request.folder) and (warning := token_warning(dataset)):
        hosts.say(warning)
    make_task = recursive_task if config.model.type == models.RECURSIVE else classification_task
    return experiment.Problem(
        config.data.name,
        {**vars(dataset.source), "fingerprint": dataset.fingerprint()},
        build=lambda seed: models.build(config, facts, seed),
        width_names=lambda params: models.width_names(config, facts),
        make_task=lambda graphdef: make_task(dataset, graphdef, config),
        report_seed=partial(_report_seed, dataset),
        report_average=_report_average,
        show=report.spread,
    )


def _report_seed(
    dataset: SequenceDataset, request: Request, setup: Setup, trained: Trained, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Evaluate a seed and write its report; return the content of its eval.json."""
    config, task, state, folder = request.config, setup.task, trained.state, trained.folder
    results = shared_report.evaluate_all(setup, state, config.eval.train_samples)
    confusions = report.take_confusions(results, config.eval.weights)
    lengths = {
        name: report.by_length(split, results[name][config.eval.weights], task.headline)
        for name, split in dataset.tests.items()
    }
    baselines = report.baselines(dataset, task.headline, config.eval.train_samples)
    summary = {
        **shared_report.summarize(results, config.eval.weights, baselines, task.weighted_by),
        **{f"{name}/confusion": counts.tolist() for name, counts in confusions.items()},
        **{f"{name}/by_length": rows for name, rows in lengths.items()},
        "headline": task.headline,
        **facts,
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


def _report_average(setup: Setup, members: Sequence[Params]) -> experiment.Averaged:
    """Return the metrics of the mean over seeds of the predicted probabilities."""
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


PROGRAM = experiment.Program(
    "lra", "configs/lra.py:task=listops,model=flare", _check_options, _check_model, _load, _pose
)
