"""The program, read from top to bottom: options, data, model, training, evaluation, report."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.dataset import PDEDataset
from data_pipeline.registry import find_record, load_dataset
from experiments import cli, figures, frame_figures, program, report, workdir
from experiments.additive.report import write_report
from experiments.errors import UserError
from experiments.integral_report import Value, summarize_values, value_lines, values_of_test, write_values
from experiments.options import check_options
from experiments.pdebench import drawing, marching, models
from experiments.pdebench.analyze import analyze, check_analyzable, read_cases, why_no_scores
from experiments.pdebench.energy import write_energy
from experiments.pdebench.mixer_statistics import write_statistics
from experiments.pdebench.normalizers import as_trained, with_normalizers
from experiments.pdebench.ranges_of_tests import judge_tests, range_lines, scores_of
from experiments.pdebench.yardsticks import simple_predictors
from experiments.predict.rollout import rollout_prediction
from experiments.predict.signature import signature_of
from experiments.predict.training_range import TrainingRange
from experiments.seeds import Seeds, Trained, finish_seeds
from experiments.training import hosts
from experiments.training.ensemble import report_fields
from experiments.training.evaluate import PerCase, make_predictor
from experiments.training.initial import started
from experiments.training.mesh import Mesh, make_mesh
from experiments.training.packing import Params
from experiments.training.setup import Setup, build_setup
from experiments.training.task import mean_of_defined
from experiments.training.tasks import build_task
from experiments.training.tasks.baselines import baseline_errors
from experiments.training.tasks.errors import headline_of, with_units
from experiments.training.tasks.inputs import input_channels
from flare_jax import params as model_params
from flare_jax.convert.starting import StartingWeights
from flare_jax.convert.trained import read_prediction


def main() -> None:
    """Run the mode that the flags ask for."""
    program.join_other_hosts()
    run(program.read_request("pdebench", "configs/flare_elas.py", own=("eigenvectors", *marching.FLAGS)))


def run(request: program.Request) -> None:
    """Check everything that can be checked, load the data, and train, evaluate or analyse every seed."""
    config, cases = request.config, _cases(request)
    marching.apply_flags(config, request)
    check_options(config, request.given)
    mesh = make_mesh(config.mesh.data, config.mesh.points)
    models.check_model(config)
    models.check_edges_split(config.model.type, mesh.points)
    if request.mode == "analyze":
        grid = find_record(config.data.name).grid or config.data.get("grid")
        check_analyzable(config.model, cases, bool(grid))
    elif cases:
        raise UserError(
            f"--eigenvectors={','.join(map(str, cases))} chooses cases to analyse; it goes with --mode=analyze"
        )
    with program.held(request):
        _run(request, mesh)


def _run(request: program.Request, mesh: Mesh) -> None:
    """Load the data, then train, evaluate or analyse every seed."""
    config, folder = request.config, request.folder
    start = program.read_start(request)
    if request.mode == "train":
        with hosts.main_first("workdir"):
            workdir.prepare(folder, config, request.given)
    dataset = _load(request)
    if request.mode == "time":
        options = models.model_options(config.model, models.data_facts(dataset, mesh.points))
        models.check_grid_split(options, mesh.points)
        with program.matmul_precision(config):
            program.report_costs(_set_up(config, options, dataset, mesh)[1], request)
        return
    if request.mode == "analyze" and dataset.kind != "steady" and dataset.grid_shape is None:
        raise UserError(
            f"--mode=analyze works for steady fields and for grids, but {dataset.name} has frames of meshes; use "
            "--mode=eval"
        )
    data_record = {**vars(dataset.source), "fingerprint": dataset.fingerprint()}
    options = workdir.recorded_model_options(folder)
    if options is None:
        options = models.model_options(config.model, models.data_facts(dataset, mesh.points))
    named = Path(dataset.source.path).stem if dataset.name == "custom" else dataset.name
    request = program.record_data(request, named, data_record, start)
    if request.mode == "train" and hosts.is_main():
        workdir.record(folder, "model_options", options)
    if hosts.is_main() and not request.other_data:
        with program.writing(request):
            _record_prediction(folder, dataset, models.call_inputs(config.model.type))
    dataset = models.fitting_tests(dataset, options, hosts.say)
    models.check_grid_split(options, mesh.points)
    simple = {} if request.mode == "analyze" else simple_predictors(request, dataset, data_record["fingerprint"])
    with program.matmul_precision(config):
        graphdef, setup = _set_up(config, options, dataset, mesh, start)
        seeds = Seeds(request, setup, lambda seed: _begin(config, options, dataset, seed, start)[1])
        if request.mode == "analyze":
            for trained in seeds:
                _analyze(request, graphdef, setup, trained, dataset)
            return
        summaries = {
            trained.seed: _report_seed(request, setup, trained, dataset, data_record, simple) for trained in seeds
        }
        output = marching.output_folder(request, folder)
        finish_seeds(
            request, seeds, summaries, headline_of(dataset), report.show_error, partial(report_fields, setup), output
        )


def _record_prediction(folder: Path, dataset: PDEDataset, call_inputs: Collection[str]) -> None:
    """Write into config.json what the model takes and gives, and what it was trained on, where that is not there."""
    known = workdir.read_config_file(folder)
    signature = signature_of(dataset)
    if "prediction" not in known:
        known["prediction"] = signature and signature.to_json()
        # The state goes to models with an argument for it in another way than inputs do.
        if signature is None and "fx" not in call_inputs:
            known["prediction"] = rollout_prediction(dataset)
    prediction = known["prediction"]
    if (signature or dataset.kind == "mesh_series") and prediction and "training_range" not in prediction:
        prediction = {**prediction, "training_range": TrainingRange.of(dataset).to_json()}
    if prediction and dataset.integrals is not None:
        wanted = "; ".join(one.name for one in dataset.integrals.wanted)
        prediction = {**prediction, "integrals": {"wanted": wanted, "reference": dataset.integrals.reference}}
    workdir.record(folder, "prediction", prediction)


def _load(request: program.Request) -> PDEDataset:
    """Load the data of a request, generate them where it says so, and say what they are."""
    config = request.config
    with hosts.main_first("data"):
        dataset = load_dataset(
            config.data.name,
            Path(config.data.dir),
            **_data_options(config),
            asked=program.asked_of_generator(request),
            edges=models.takes_edges(config.model.type),
            say=hosts.say,
        )
    hosts.say(f"{config.data.name}: {len(dataset.train)} training samples, {dataset.source.describe()}")
    if config.train.init_normalizers == "keep":
        # Those of a run that has begun are its own: what it started from may be gone.
        known = workdir.is_trained(request.folder)
        source = request.folder if known else Path(config.train.init_from)
        return with_normalizers(dataset, read_prediction(source), str(source))
    return dataset if request.mode in cli.CONFIGURED else as_trained(dataset, request.folder)


def _data_options(config: ConfigDict) -> dict[str, Any]:
    names = ("source", "num_generate", "generate_seed", "resolution", "n_train", "n_test")
    of_loader = {name: config.data[name] for name in find_record(config.data.name).options if name in config.data}
    return {**{name: config.data[name] for name in names if name in config.data}, "options": of_loader}


def _begin(
    config: ConfigDict,
    options: Mapping[str, Any],
    dataset: PDEDataset,
    seed: int,
    start: StartingWeights | None,
    say: hosts.Say = hosts.silent,
) -> tuple[nnx.GraphDef, Params]:
    """Return the structure of the model and the parameters that the training of a seed begins with."""
    channels = (input_channels(dataset, models.call_inputs(config.model.type)), dataset.c_out)
    graphdef, params = model_params.split(models.build(config, options, *channels, seed))
    if start is not None:
        params = started(params, start, config, lambda: models.width_names(config, options, *channels), say)
    return graphdef, params


def _set_up(
    config: ConfigDict,
    options: Mapping[str, Any],
    dataset: PDEDataset,
    mesh: Mesh,
    start: StartingWeights | None = None,
) -> tuple[nnx.GraphDef, Setup]:
    """Return the structure of the model and the set-up of the first seed."""
    seed = config.train.seeds[0]
    graphdef, params = _begin(config, options, dataset, seed, start, hosts.say)
    inputs = models.call_inputs(config.model.type)
    task = build_task(dataset, model_params.apply_fn(graphdef), mesh.points, inputs, config.get("task", {}))
    return graphdef, build_setup(task, params, config, seed, mesh, model_params.matrix_names(graphdef, params))


def _cases(request: program.Request) -> tuple[int, ...]:
    return read_cases(request.own.get("eigenvectors") or ())


def _analyze(
    request: program.Request, graphdef: nnx.GraphDef, setup: Setup, trained: Trained, dataset: PDEDataset
) -> None:
    """Analyse a seed: statistics of its mixers or its scores, and on grids the energy of its predictions."""
    config, state = request.config, trained.state
    folder = request.details(trained.folder) if request.other_data else trained.folder
    if reason := why_no_scores(config.model):
        hosts.say(f"no analysis of scores: {reason}")
    elif dataset.kind != "steady":
        hosts.say(f"no analysis of scores: {dataset.name} has frames, and scores are analysed of steady fields")
    elif "return_statistics" in models.call_inputs(config.model.type):
        write_statistics(graphdef, setup, state, config, folder)
    else:
        analyze(graphdef, setup, state, config, dataset, folder, _cases(request))
    if dataset.grid_shape is not None:
        write_energy(setup, state, config, dataset, folder)


def _report_seed(
    request: program.Request,
    setup: Setup,
    trained: Trained,
    dataset: PDEDataset,
    data_record: Mapping[str, Any],
    simple: Mapping[str, float],
) -> dict[str, Any]:
    """Evaluate a seed and write its report; return what the report says."""
    config, task, state, folder = request.config, setup.task, trained.state, trained.folder
    results = with_units(dataset, report.evaluate_all(setup, state))
    chosen = setup.weights(state)[config.eval.weights]
    baselines = {
        f"{name}/{task.headline}_{baseline}": error
        for name, split in {**dataset.tests, "train": dataset.train}.items()
        for baseline, error in baseline_errors(dataset, split, config.task.get("first", 1)).items()
    }
    # The steps of parts that grow are few, so that those of the training set are affordable too.
    framed = [*dataset.tests, *(["train"] if dataset.kind == "layer_series" else [])] if task.frame_metrics else []
    frames = {name: report.evaluate_frames(setup, chosen, name) for name in framed}
    summary = {
        **report.summarize(results, config.eval.weights, {**baselines, **simple}),
        **report.evaluate_others(setup, chosen),
        **{
            f"{name}/{metric}_by_frame": mean_of_defined(values, 0).tolist()
            for name, per_frame in frames.items()
            for metric, values in per_frame.items()
        },
        **({"fields": list(dataset.channels.targets)} if dataset.channels else {}),
        "step": int(state.step),
        "seed": trained.seed,
        "parameters": setup.packing.count,
        "data": dict(data_record),
    }
    values = _integrals(setup, chosen, dataset)
    judgements = judge_tests(request.folder, dataset) if hosts.is_main() else {}
    summary |= {f"{name}/integrals": summarize_values(found) for name, found in values.items()}
    summary |= {f"{name}/range": scores_of(found) for name, found in judgements.items()}
    lines = [line for name, found in values.items() for line in value_lines(name, summarize_values(found))]
    lines += [line for found in judgements.values() for line in range_lines(found, bool(request.other_data))]
    hosts.say("\n".join([*report.result_lines(summary, task.headline), *lines]))
    with program.writing(request):
        place = marching.output_folder(request, folder)
        details = request.details(place)
        if hosts.is_main():
            report.write_eval(place, trained.file, summary)
            report.write_per_case(details / "per_case.csv", results, dataset.sample_names)
            _write_frames(frames, dataset, details, config.figures)
            for name, found in values.items():
                write_values(details / f"integrals_{name}.csv", found)
        if config.figures:
            drawing.draw_learning_curve(dataset, task, summary, folder, details / "figures")
            for name in dataset.tests:
                per_case = results[name][config.eval.weights]
                drawing.draw_cases(setup, chosen, dataset, name, per_case, details / "figures")
        if dataset.mesh_of is not None:
            per_split = {name: sets[config.eval.weights] for name, sets in results.items()}
            write_report(setup, chosen, dataset, per_split, frames, details, config.name, config.figures)
    return summary


def _integrals(setup: Setup, params: Params, dataset: PDEDataset) -> dict[str, list[Value]]:
    """Return the integrals of all tests, nothing where the data name none."""
    if dataset.integrals is None:
        return {}
    predict, found = make_predictor(setup.task, setup.mesh), {}
    for name in dataset.tests:
        arrays = setup.mesh.place_dataset(setup.task.tests[name])
        found[name] = values_of_test(dataset, name, lambda case: predict(params, arrays, case))
    return found


def _write_frames(frames: Mapping[str, PerCase], dataset: PDEDataset, folder: Path, draw: bool) -> None:
    """Write the errors of every frame of the tests, and draw them."""
    for name, per_frame in frames.items():
        times = dataset.times[-next(iter(per_frame.values())).shape[1] :]
        report.write_frames(folder / f"frames_{name}.csv", per_frame, times)
        if draw and dataset.kind != "layer_series":
            figure = frame_figures.error_figure(per_frame, times, f"{dataset.name}, {name}: mean ± standard deviation")
            figures.save(figure, folder / "figures" / f"{name}_by_frame.png")
