"""What an experiment program does, read from top to bottom: options, data, model, training, evaluation, report.

A program says what is its own: its checks, its data, and as a `Problem` its models, its task and its report.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx

from experiments import converted, program, workdir
from experiments.program import Request
from experiments.seeds import Seeds, Trained, finish_seeds
from experiments.training import hosts
from experiments.training.initial import started
from experiments.training.mesh import Mesh, make_mesh
from experiments.training.packing import Params
from experiments.training.setup import Setup, build_setup
from experiments.training.task import Task
from flare_jax import params as model_params
from flare_jax.convert.starting import StartingWeights

# Metrics by split and name, further entries of a report, further lines.
Averaged = tuple[Mapping[str, float], Mapping[str, Any], Sequence[str]]


@dataclass(frozen=True)
class Problem:
    """What a program makes of its data, called `name`, about which config.json and reports hold `data_record`.

    `build(seed)` returns a model, `width_names(params)` the names of parameters whose shapes depend on the data, and
    `make_task(graphdef)` the task of models of this structure. `prepare(request)` records what the folder of the run
    has to hold beside its data. `report_seed(request, setup, trained, facts)` evaluates a seed, writes its report and
    returns what it says, `facts` among it; `report_average(setup, members)` is for the averaged prediction of several
    seeds, and `show(mean, spread)` words the headline metric over seeds. `analyze(request, setup, trained)` is for
    programs with that mode. Reports lie where `output_folder(request, folder)` says of the folder of a run or of its
    seed.
    """

    name: str
    data_record: Mapping[str, Any]
    build: Callable[[int], nnx.Module]
    width_names: Callable[[Params], Collection[str]]
    make_task: Callable[[nnx.GraphDef], Task]
    report_seed: Callable[[Request, Setup, Trained, Mapping[str, Any]], dict[str, Any]]
    report_average: Callable[[Setup, Sequence[Params]], Averaged]
    show: Callable[[float, float | None], str]
    prepare: Callable[[Request], None] | None = None
    analyze: Callable[[Request, Setup, Trained], None] | None = None
    output_folder: Callable[[Request, Path], Path] | None = None


@dataclass(frozen=True)
class Program:
    """What is its own to one of the programs; `example` is a config file for messages, `own` names its own flags.

    `check_options(request)` and `check_model(request, mesh)` raise before any data are read, the latter with the model
    traced. `load(request)` returns the data, and `pose(request, data, mesh)`, which says what they are, the problem.
    """

    name: str
    example: str
    check_options: Callable[[Request], None]
    check_model: Callable[[Request, Mesh], None]
    load: Callable[[Request], Any]
    pose: Callable[[Request, Any, Mesh], Problem]
    own: tuple[str, ...] = ()


def main(own: Program) -> None:
    """Run the mode that the flags ask for."""
    program.join_other_hosts()
    run(program.read_request(own.name, own.example, own=own.own), own)


def run(request: Request, own: Program) -> None:
    """Check everything that can be checked, load the data, and train, evaluate or analyse every seed."""
    config = request.config
    own.check_options(request)
    converted.check_step(request.folder, request.step)
    mesh = make_mesh(config.mesh.data, config.mesh.points)
    own.check_model(request, mesh)
    with program.held(request):
        _run(request, own, mesh)


def _run(request: Request, own: Program, mesh: Mesh) -> None:
    config = request.config
    start = program.read_start(request)
    if request.mode == "train":
        with hosts.main_first("workdir"):
            workdir.prepare(request.folder, config, request.given)
    with hosts.main_first("data"):
        data = own.load(request)
    problem = own.pose(request, data, mesh)
    if request.mode == "time":
        with program.matmul_precision(config):
            program.report_costs(_set_up(problem, config, mesh, None), request)
        return
    request = program.record_data(request, problem.name, problem.data_record, start)
    if problem.prepare is not None:
        problem.prepare(request)
    with program.matmul_precision(config):
        setup = _set_up(problem, config, mesh, start, values=request.mode == "train")
        seeds = Seeds(request, setup, lambda seed: _begin(problem, config, seed, start)[1])
        if request.mode == "analyze":
            for trained in seeds:
                problem.analyze(request, setup, trained)
            return
        summaries = {
            trained.seed: problem.report_seed(request, setup, trained, _facts(problem, setup, trained))
            for trained in seeds
        }
        folder = request.folder if problem.output_folder is None else problem.output_folder(request, request.folder)
        average = partial(problem.report_average, setup)
        finish_seeds(request, seeds, summaries, setup.task.headline, problem.show, average, folder)


def _begin(
    problem: Problem,
    config: Any,
    seed: int,
    start: StartingWeights | None,
    say: hosts.Say = hosts.silent,
    *,
    values: bool = True,
) -> tuple[nnx.GraphDef, Params]:
    """Return the structure of the model and the parameters that the training of a seed begins with.

    Without `values` these are their shapes.
    """
    build = partial(problem.build, seed)
    graphdef, params = model_params.split(build() if values else nnx.eval_shape(build))
    if start is not None:
        params = started(params, start, config, partial(problem.width_names, params), say)
    return graphdef, params


def _set_up(problem: Problem, config: Any, mesh: Mesh, start: StartingWeights | None, *, values: bool = True) -> Setup:
    """Return the set-up of the first seed; without `values`, for trained states, that of its shapes."""
    seed = config.train.seeds[0]
    graphdef, params = _begin(problem, config, seed, start, hosts.say, values=values)
    matrices = model_params.matrix_names(graphdef, params)
    return build_setup(problem.make_task(graphdef), params, config, seed, mesh, matrices)


def _facts(problem: Problem, setup: Setup, trained: Trained) -> dict[str, Any]:
    """Return what every report says of a seed."""
    return {
        "step": int(trained.state.step),
        "seed": trained.seed,
        "parameters": setup.packing.count,
        "data": dict(problem.data_record),
    }
