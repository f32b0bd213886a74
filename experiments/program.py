"""What the experiment programs share around their data and models: hosts, flags, folders, records of the data."""

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import cli, converted, workdir
from experiments.errors import UserError
from experiments.model_options import program_of
from experiments.ranges import check_complete
from experiments.training import hosts, initial
from experiments.training.costs import measure
from experiments.training.setup import Setup
from experiments.training.trackers import check_trackers
from flare_jax.convert.starting import StartingWeights
from runtime.json_files import write_json

FLAGS = flags.FLAGS
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Request:
    """What the command line asks for: `given` are the options set on it, `step` the checkpoint to evaluate, if any.

    `track` names the trackers that a training feeds, `own` holds the flags that only this program has. `weights` are
    those of the evaluation where they are not the ones that the run reports, and `other_data` names data that are not
    those of the training.
    """

    config: ConfigDict
    folder: Path
    given: Mapping[str, object]
    mode: str = "train"
    step: int | None = None
    track: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    other_data: str = ""

    @property
    def report_file(self) -> str:
        """The name of the report: one of another checkpoint, weights or data leaves that of the run alone."""
        step = "" if self.step is None else f"step_{self.step}"
        return "_".join(filter(None, ("eval", step, self.weights, self.other_data))) + ".json"

    def details(self, folder: Path) -> Path:
        """Return where tables and figures of the report in `folder` go: there, or into a folder named like it."""
        place = folder if self.report_file == "eval.json" else folder / Path(self.report_file).stem
        place.mkdir(parents=True, exist_ok=True)
        return place


def join_other_hosts() -> None:
    """Connect to the other processes of the run, where the flags name a coordinator; UserError for half of it."""
    flags_of_hosts = ("coordinator_address", "num_processes", "process_id")
    given = {name: FLAGS[name].value for name in flags_of_hosts if FLAGS[name].value is not None}
    if given and len(given) < len(flags_of_hosts):
        missing = " and ".join(f"--{name}" for name in flags_of_hosts if name not in given)
        raise UserError(f"--{next(iter(given))}={next(iter(given.values()))} goes with {missing}; give all three")
    if given and not 0 <= FLAGS.process_id < FLAGS.num_processes:
        raise UserError(
            f"--process_id={FLAGS.process_id} must lie in 0 to {FLAGS.num_processes - 1} for "
            f"--num_processes={FLAGS.num_processes}; number the processes from 0"
        )
    if given and not re.fullmatch(r".+:\d{1,5}", FLAGS.coordinator_address):
        raise UserError(f"--coordinator_address={FLAGS.coordinator_address} must be host:port, that of process 0")
    if given:
        hosts.join(FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id)


def read_request(program: str, example: str, own: Sequence[str] = ()) -> Request:
    """Return what the flags ask for; only training takes the configuration from the command line.

    `program` is the name of the one that runs, `example` the config file that the message about a missing one names,
    `own` are the flags that only this program has. Raises UserError for a configuration, or the folder of a run, of
    another program.
    """
    for name in ("workdir", "data_dir"):
        if FLAGS[name].value == "":
            raise UserError(f"--{name}= is empty; name a folder, or leave it out")
    config, folder = _from_flags(example) if FLAGS.mode in cli.CONFIGURED else _from_folder()
    weights = _change_evaluation(config)
    check_program(program, config, folder, FLAGS.mode)
    if FLAGS.data_dir is not None:
        config.data.dir = FLAGS.data_dir
    if FLAGS.track and FLAGS.mode != "train":
        raise UserError(f"--track={','.join(FLAGS.track)} follows a training; it goes with --mode=train")
    check_trackers(FLAGS.track)
    return Request(
        config,
        folder,
        cli.overrides(),
        FLAGS.mode,
        FLAGS.step,
        tuple(FLAGS.track),
        {name: FLAGS[name].value for name in own},
        weights,
    )


def _change_evaluation(config: ConfigDict) -> str:
    """Take over the flags that change an evaluation; return the weights where they are not those of the run."""
    for name in ("batch_size", "weights"):
        value = FLAGS[name].value
        if value is not None and FLAGS.mode in cli.CONFIGURED:
            raise UserError(
                f"--{name}={value} changes the evaluation of a run; it goes with --mode=eval: set "
                f"--config.eval.{name}={value} here"
            )
    if FLAGS.batch_size is not None:
        config.eval.batch_size = FLAGS.batch_size
    if FLAGS.weights in (None, config.eval.weights):
        return ""
    config.eval.weights = FLAGS.weights
    return FLAGS.weights


def check_program(program: str, config: ConfigDict, folder: Path, mode: str) -> None:
    """Raise UserError unless the configuration, and that of a run to be resumed in `folder`, are for `program`."""
    wanted = program_of(config)
    if wanted != program and mode in cli.CONFIGURED:
        raise UserError(f"the config {config.name!r} is for experiments.{wanted}; use python -m experiments.{wanted}")
    if wanted != program:
        raise UserError(
            f"{folder} holds a run of experiments.{wanted}; use python -m experiments.{wanted} --mode=eval "
            f"--workdir={folder}"
        )
    kept = workdir.is_trained(folder) or converted.is_converted(folder)
    if mode == "train" and (folder / workdir.CONFIG_FILE).is_file() and kept:
        stored = program_of(workdir.load_run_config(folder))
        if stored != program:
            raise UserError(f"{folder} holds a run of experiments.{stored}; use another --workdir")


def _from_flags(example: str) -> tuple[ConfigDict, Path]:
    if FLAGS.step is not None:
        raise UserError(f"--step={FLAGS.step} chooses a checkpoint to evaluate; it goes with --mode=eval")
    config = given_config(example)
    return config, Path(FLAGS.workdir or Path("out") / config.name)


def given_config(example: str) -> ConfigDict:
    """Return the configuration that --config names, with the options of the command line; raises UserError."""
    if FLAGS.config is None:
        raise UserError(f"--config=FILE is missing; for example --config={example}")
    config = ConfigDict(FLAGS.config.to_dict())
    check_complete(config, "the config")
    given = cli.overrides()
    if "train.min_steps" not in given and ("train.epochs" in given or "train.steps" in given):
        config.train.min_steps = 0  # who says how long means it
    return config


def _from_folder() -> tuple[ConfigDict, Path]:
    if FLAGS.workdir is None:
        raise UserError(f"--mode={FLAGS.mode} needs --workdir=FOLDER, the folder of a run")
    if FLAGS.config is not None:
        raise UserError(f"--mode={FLAGS.mode} takes the config from the workdir; leave --config out")
    converted.adopt(Path(FLAGS.workdir))
    config = workdir.load_run_config(Path(FLAGS.workdir))
    check_complete(config, str(Path(FLAGS.workdir) / workdir.CONFIG_FILE))
    if config.mesh.data * config.mesh.points > jax.device_count():
        hosts.say(f"evaluating on one device of {jax.device_count()}; the run was trained on more")
        config.mesh.data = config.mesh.points = 1
    return config, Path(FLAGS.workdir)


def record_data(
    request: Request, name: str, data_record: Mapping[str, Any], start: StartingWeights | None = None
) -> Request:
    """Write into config.json where the data came from, and the weights that training begins with.

    In other modes than training the data, called `name`, are compared with what it says; the request that is returned
    knows of others. Raises UserError where a run would be resumed on other data.
    """
    trained_on = workdir.read_config_file(request.folder).get("data")
    differs = bool(trained_on) and trained_on.get("fingerprint") != data_record["fingerprint"]
    if request.mode != "train":
        if not differs:
            return request
        # Named after the data, and by what is in them: other files may lie in a folder of the same name.
        called = re.sub(r"\W+", "_", name).strip("_")
        request = replace(request, other_data=f"{called}_{data_record['fingerprint'][:8]}")
        hosts.say(
            f"warning: the data in {data_record['path']} is not what this run was trained on; results go to "
            f"{request.folder / request.report_file} and the folder of that name"
        )
        return request
    if differs and workdir.is_trained(request.folder):
        raise UserError(
            f"the data in {data_record['path']} are not those that {request.folder} was begun with; use the same "
            "data, or another --workdir"
        )
    if hosts.is_main():
        workdir.record(request.folder, "data", dict(data_record))
        if start is not None:
            workdir.record(request.folder, "started_from", initial.start_record(start))
    return request


def asked_of_generator(request: Request) -> tuple[str, ...]:
    """Return the options of generation on the command line, with which the data at hand must have been generated.

    Those of a config are what it generates where data are missing; small variants also run on public files.
    """
    return tuple(name for name in ("num_generate", "generate_seed", "resolution") if f"data.{name}" in request.given)


def read_start(request: Request) -> StartingWeights | None:
    """Return the weights that the training begins with, None for new ones and where all seeds have begun."""
    begun = workdir.is_trained(request.folder) and workdir.has_begun(request.folder, request.config.train.seeds)
    if request.mode != "train" or begun:
        return None
    return initial.read_start(request.config.train)


def held(request: Request) -> AbstractContextManager:
    """Return the context in which no other process trains in the folder of the request."""
    trains = request.mode == "train" and hosts.is_main()
    return workdir.held(request.folder) if trains else nullcontext()


@contextmanager
def writing(request: Request) -> Iterator[None]:
    """Keep results in the folder of the request; one that may only be read costs an evaluation these files alone."""
    try:
        yield
    except OSError as error:
        if request.mode == "train" or error.errno not in _READ_ONLY:
            raise
        hosts.say(f"warning: {request.folder} cannot be written ({error.strerror}); the results are not kept there")


def matmul_precision(config: Any) -> AbstractContextManager:
    """Return the context in which products have the precision of the configuration."""
    name = config.train.matmul_precision
    return jax.default_matmul_precision(None if name == "default" else name)


def report_costs(setup: Setup, request: Request) -> None:
    """Measure what training costs, say so and write timing.json into the folder of the request; nothing else is."""
    values, text = measure(setup, request.config)
    hosts.say(text)
    if hosts.is_main():
        request.folder.mkdir(parents=True, exist_ok=True)
        write_json(request.folder / "timing.json", values)
