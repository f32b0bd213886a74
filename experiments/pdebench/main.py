"""Fields on points: what is its own to the program (`experiments.experiment`)."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx

from data_pipeline.dataset import PDEDataset
from data_pipeline.registry import find_record, load_dataset
from experiments import cli, experiment, program, report, workdir
from experiments.errors import UserError
from experiments.options import check_options
from experiments.pdebench import marching, models
from experiments.pdebench.analyze import analyze, check_analyzable, check_cases, read_cases, why_no_scores
from experiments.pdebench.energy import write_energy
from experiments.pdebench.evaluation import report_seed
from experiments.pdebench.mixer_statistics import write_statistics
from experiments.pdebench.normalizers import as_trained, with_normalizers
from experiments.pdebench.yardsticks import simple_predictors
from experiments.predict.rollout import rollout_prediction
from experiments.predict.signature import signature_of
from experiments.predict.training_range import TrainingRange
from experiments.program import Request
from experiments.seeds import Trained
from experiments.training import hosts
from experiments.training.ensemble import report_fields
from experiments.training.mesh import Mesh
from experiments.training.setup import Setup
from experiments.training.task import Task
from experiments.training.tasks import build_task, task_options
from experiments.training.tasks.inputs import input_channels
from flare_jax import params as model_params
from flare_jax.convert.trained import read_prediction
from flare_jax.models.on_devices import apply_on_devices


def main() -> None:
    """Run the mode that the flags ask for."""
    experiment.main(PROGRAM)


def _cases(request: Request) -> tuple[int, ...]:
    return read_cases(request.own.get("eigenvectors") or ())


def _check_options(request: Request) -> None:
    cases = _cases(request)
    if cases and request.mode != "analyze":
        raise UserError(
            f"--eigenvectors={','.join(map(str, cases))} chooses cases to analyse; it goes with --mode=analyze"
        )
    marching.apply_flags(request.config, request)
    check_options(request.config, request.given)


def _check_model(request: Request, mesh: Mesh) -> None:
    config = request.config
    if request.mode in cli.CONFIGURED:  # the model of a run was traced before its training
        models.check_model(config)
    models.check_edges_split(config.model.type, mesh.points)
    if request.mode == "analyze":
        grid = find_record(config.data.name).grid or config.data.get("grid")
        check_analyzable(config.model, _cases(request), bool(grid))


def _load(request: Request) -> PDEDataset:
    data = request.config.data
    names = ("source", "num_generate", "generate_seed", "resolution", "n_train", "n_test")
    return load_dataset(
        data.name,
        Path(data.dir),
        **{name: data[name] for name in names if name in data},
        options={name: data[name] for name in find_record(data.name).options if name in data},
        asked=program.asked_of_generator(request),
        edges=models.takes_edges(request.config.model.type),
        say=hosts.say,
    )


def _pose(request: Request, dataset: PDEDataset, mesh: Mesh) -> experiment.Problem:
    config, timed = request.config, request.mode == "time"
    hosts.say(f"{config.data.name}: {len(dataset.train)} training samples, {dataset.source.describe()}")
    dataset = _with_normalizers_of_run(request, dataset)
    if request.mode == "analyze" and dataset.kind != "steady" and dataset.grid_shape is None:
        raise UserError(
            f"--mode=analyze works for steady fields and for grids, but {dataset.name} has frames of meshes; use "
            "--mode=eval"
        )
    if cases := _cases(request):
        check_cases(cases, len(dataset.tests["test"]))
    record = {**vars(dataset.source), "fingerprint": dataset.fingerprint()}
    options = None if timed else workdir.recorded_model_options(request.folder)
    if options is None:
        options = models.model_options(config.model, models.data_facts(dataset, mesh.points))
    dataset = dataset if timed else models.fitting_tests(dataset, options, hosts.say)
    models.check_grid_split(options, mesh.points)
    call_inputs = models.call_inputs(config.model.type)
    channels = (input_channels(dataset, call_inputs), dataset.c_out)

    def build(seed: int) -> nnx.Module:
        return models.build(config, options, *channels, seed)

    def make_task(graphdef: nnx.GraphDef) -> Task:
        return build_task(dataset, apply_on_devices(graphdef), mesh.points, call_inputs, task_options(config))

    simple: dict[str, float] = {}

    def prepare(request: Request) -> None:
        _record(request, dataset, options, call_inputs)
        if request.mode != "analyze":
            simple.update(simple_predictors(request, dataset, record["fingerprint"]))

    return experiment.Problem(
        Path(dataset.source.path).stem if dataset.name == "custom" else dataset.name,
        record,
        build=build,
        width_names=lambda params: models.width_names(config, options, *channels),
        make_task=make_task,
        prepare=prepare,
        report_seed=partial(report_seed, dataset, simple),
        report_average=report_fields,
        show=report.show_error,
        analyze=partial(_analyze, dataset, build),
        output_folder=marching.output_folder,
    )


def _with_normalizers_of_run(request: Request, dataset: PDEDataset) -> PDEDataset:
    """Return the data set with the normalizers of what training begins with, or of the run that is evaluated."""
    train = request.config.train
    if train.init_normalizers == "keep":
        # Those of a run that has begun are its own: what it started from may be gone.
        source = request.folder if workdir.is_trained(request.folder) else Path(train.init_from)
        return with_normalizers(dataset, read_prediction(source), str(source))
    return dataset if request.mode in cli.CONFIGURED else as_trained(dataset, request.folder)


def _record(request: Request, dataset: PDEDataset, options: Mapping[str, Any], call_inputs: Collection[str]) -> None:
    """Write into config.json the options of the model, and what it predicts."""
    if not hosts.is_main():
        return
    if request.mode == "train":
        workdir.record(request.folder, "model_options", options)
    if not request.other_data:
        with program.writing(request):
            _record_prediction(request.folder, dataset, call_inputs)


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


def _analyze(
    dataset: PDEDataset, build: Callable[[int], nnx.Module], request: Request, setup: Setup, trained: Trained
) -> None:
    """Analyse a seed: statistics of its mixers or its scores, and on grids the energy of its predictions."""
    config, state = request.config, trained.state
    folder = request.details(trained.folder) if request.other_data else trained.folder
    graphdef, _ = model_params.split(nnx.eval_shape(lambda: build(0)))
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


PROGRAM = experiment.Program(
    "pdebench",
    "configs/flare_elas.py",
    _check_options,
    _check_model,
    _load,
    _pose,
    own=("eigenvectors", *marching.FLAGS),
)
