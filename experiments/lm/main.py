"""Language modelling: what is its own to the program (`experiments.experiment`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx

from data_pipeline.language.tokenizer import load_tokenizer
from experiments import cli, experiment, program
from experiments import report as shared_report
from experiments.errors import UserError
from experiments.figures import save
from experiments.lm import models, report
from experiments.lm.data import LanguageData, load_data
from experiments.lm.options import check_lm_options
from experiments.lm.task import averaged_scores, language_task
from experiments.program import Request
from experiments.seeds import Trained
from experiments.training import hosts
from experiments.training.ensemble import evaluate_average, means_of
from experiments.training.mesh import Mesh
from experiments.training.packing import Params
from experiments.training.records import read_log
from experiments.training.setup import Setup
from flare_jax import params as model_params


def main() -> None:
    """Run the mode that the flags ask for."""
    experiment.main(PROGRAM)


def _check_options(request: Request) -> None:
    check_lm_options(request.config, request.given)
    models.check_mesh(request.config, request.config.mesh.points)


def _check_model(request: Request, mesh: Mesh) -> None:
    models.check_mesh(request.config, mesh.points)
    if request.mode in cli.CONFIGURED:  # the model of a run was traced before its training
        models.check_model(request.config)


def _load(request: Request) -> LanguageData:
    return load_data(request.config, hosts.say)


def _pose(request: Request, data: LanguageData, mesh: Mesh) -> experiment.Problem:
    config = request.config
    samples = config.train.batch_size * config.train.accumulation
    rows = len(next(iter(data.train.values())))
    if rows < samples:
        raise UserError(
            f"the training text gives {rows} rows of {config.data.length} tokens, fewer than the {samples} of a step; "
            "lower train.batch_size or data.length"
        )
    hosts.say(f"{rows:,} training rows of {config.data.length} tokens, {data.source.describe()}")
    record = {
        **vars(data.source), "fingerprint": data.fingerprint, "vocab_size": data.vocab_size,
        "tokenizer": data.tokenizer, "tokens": str(data.tokenizer_folder or ""),
    }  # fmt: skip
    return experiment.Problem(
        Path(data.source.path).stem or config.data.name,
        record,
        build=lambda seed: models.build(config, data.vocab_size, seed),
        width_names=lambda params: {"embed.embedding", "lm_head.kernel"} & set(params),
        make_task=lambda graphdef: language_task(data, graphdef, config),
        prepare=partial(_keep_tokenizer, data),
        report_seed=partial(_report_seed, data),
        report_average=_report_average,
        show=report.spread,
    )


def _keep_tokenizer(data: LanguageData, request: Request) -> None:
    """Keep the tokenizer of a text: the folder of a run is enough to generate from it."""
    if request.mode == "train" and data.tokenizer_folder is not None and hosts.is_main():
        load_tokenizer(data.tokenizer, data.tokenizer_folder).save(request.folder)


def _report_seed(
    data: LanguageData, request: Request, setup: Setup, trained: Trained, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Evaluate a seed and write its report; return the content of its eval.json."""
    config, state, folder = request.config, trained.state, trained.folder
    results = shared_report.evaluate_all(setup, state, config.eval.train_samples)
    weights = setup.weights(state)[config.eval.weights]
    streamed = {}
    if config.eval.get("streaming"):
        graphdef, _ = model_params.split(nnx.eval_shape(lambda: models.build(config, data.vocab_size, 0)))
        streamed = report.streaming(setup, weights, graphdef)
    positions = {} if data.recall else report.by_position(setup, weights)
    summary = {
        **shared_report.summarize(results, config.eval.weights, {}, setup.task.weighted_by),
        **streamed,
        **{f"{name}/by_position": rows for name, rows in positions.items()},
        "headline": setup.task.headline,
        **facts,
    }
    hosts.say("\n".join(report.result_lines(summary, setup.task.headline)))
    with program.writing(request):
        if hosts.is_main():
            shared_report.write_eval(folder, trained.file, summary)
            details = request.details(folder)
            shared_report.write_per_case(details / "per_case.csv", results)
            if config.figures:
                _draw(setup, positions, folder, details / "figures")
    return summary


def _report_average(setup: Setup, members: Sequence[Params]) -> experiment.Averaged:
    """Return the metrics of the mean over seeds of the probabilities of the labels."""
    # Which token the mean prefers is not known from the scores.
    metrics = {name: metric for name, metric in setup.task.metrics.items() if name != "accuracy"}
    weighted_by = {name: other for name, other in setup.task.weighted_by.items() if name != "accuracy"}
    task = replace(setup.task, metrics=metrics, weighted_by=weighted_by)
    results = evaluate_average(replace(setup, task=task), members, averaged_scores)
    return means_of(results, weighted_by), {}, []


def _draw(setup: Setup, positions: Mapping[str, Any], folder: Path, output: Path) -> None:
    """Draw the learning curves of the run in `folder`, and of text the perplexity by position."""
    log = read_log(folder / "metrics.jsonl", hosts.say)
    if any(line["event"] == "train" for line in log):
        curves = report.learning_figure(log, setup.task.selection, setup.task.headline)
        save(curves, output / "learning_curves.png")
    if positions:
        save(report.position_figure(positions), output / "perplexity_by_position.png")


PROGRAM = experiment.Program(
    "lm", "configs/lm.py:model=recommended,size=tiny", _check_options, _check_model, _load, _pose
)
