"""The program, read from top to bottom: options, text, model, training, evaluation, report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.language.tokenizer import load_tokenizer
from experiments import program, workdir
from experiments import report as shared_report
from experiments.errors import UserError
from experiments.figures import save
from experiments.lm import models, report
from experiments.lm.data import LanguageData, load_data
from experiments.lm.options import check_lm_options
from experiments.lm.task import averaged_scores, language_task
from experiments.seeds import Seeds, Trained, finish_seeds
from experiments.training import hosts
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
    run(program.read_request("lm", "configs/lm.py:model=recommended,size=tiny"))


def run(request: program.Request) -> None:
    """Check everything that can be checked, read the text, and train or evaluate every seed."""
    config = request.config
    check_lm_options(config, request.given)
    models.check_mesh(config, config.mesh.points)
    mesh = make_mesh(config.mesh.data, config.mesh.points)
    models.check_mesh(config, mesh.points)
    models.check_model(config)
    with program.held(request):
        _run(request, mesh)


def _run(request: program.Request, mesh: Mesh) -> None:
    """Read the text, and train or evaluate every seed."""
    config = request.config
    start = program.read_start(request)
    if request.mode == "train":
        with hosts.main_first("workdir"):
            workdir.prepare(request.folder, config, request.given)
    with hosts.main_first("data"):
        data = load_data(config, hosts.say)
    samples = config.train.batch_size * config.train.accumulation
    rows = len(next(iter(data.train.values())))
    if rows < samples:
        raise UserError(
            f"the training text gives {rows} rows of {config.data.length} tokens, fewer than the {samples} of a step; "
            "lower train.batch_size or data.length"
        )
    hosts.say(f"{rows:,} training rows of {config.data.length} tokens, {data.source.describe()}")
    if request.mode == "time":
        with program.matmul_precision(config):
            program.report_costs(_set_up(config, data, mesh), request)
        return
    data_record = {
        **vars(data.source), "fingerprint": data.fingerprint, "vocab_size": data.vocab_size,
        "tokenizer": data.tokenizer, "tokens": str(data.tokenizer_folder or ""),
    }  # fmt: skip
    request = program.record_data(request, Path(data.source.path).stem or config.data.name, data_record, start)
    if request.mode == "train" and data.tokenizer_folder is not None and hosts.is_main():
        # The folder of a run is enough to generate from it.
        load_tokenizer(data.tokenizer, data.tokenizer_folder).save(request.folder)
    with program.matmul_precision(config):
        setup = _set_up(config, data, mesh, start)
        seeds = Seeds(request, setup, lambda seed: _begin(config, data, seed, start)[1])
        summaries = {trained.seed: _report_seed(request, setup, trained, data, data_record) for trained in seeds}
        finish_seeds(request, seeds, summaries, setup.task.headline, report.spread, partial(_ensemble, setup))


def _begin(
    config: ConfigDict, data: LanguageData, seed: int, start: StartingWeights | None, say: hosts.Say = hosts.silent
) -> tuple[nnx.GraphDef, Params]:
    """Return the structure of the model and the parameters that the training of a seed begins with."""
    graphdef, params = model_params.split(models.build(config, data.vocab_size, seed))
    if start is not None:
        params = started(params, start, config, lambda: {"embed.embedding", "lm_head.kernel"} & set(params), say)
    return graphdef, params


def _set_up(config: ConfigDict, data: LanguageData, mesh: Mesh, start: StartingWeights | None = None) -> Setup:
    """Return the set-up of the first seed."""
    seed = config.train.seeds[0]
    graphdef, params = _begin(config, data, seed, start, hosts.say)
    task = language_task(data, graphdef, config)
    return build_setup(task, params, config, seed, mesh, model_params.matrix_names(graphdef, params))


def _report_seed(
    request: program.Request, setup: Setup, trained: Trained, data: LanguageData, data_record: Mapping[str, Any]
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
        "step": int(state.step),
        "seed": trained.seed,
        "parameters": setup.packing.count,
        "data": dict(data_record),
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


def _ensemble(setup: Setup, members: Sequence[Params]) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    """Return what `finish_seeds` wants of the mean over seeds of the probabilities of the labels."""
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
