"""What every `python -m experiments.*` program shares: flags, one-sentence errors, exit status."""

import contextlib
import difflib
import logging
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from experiments import help
from experiments.errors import UserError, of_the_machine
from runtime import peers, signals
from runtime.command import sentence
from runtime.words import did_you_mean

FLAGS = flags.FLAGS
EXIT_USER_ERROR = 2
ROOT = Path(__file__).resolve().parents[1]
# Modes whose configuration comes from the command line; the others take that of a run.
CONFIGURED = ("train", "time")
_KINDS = {"int": "an integer, such as 100", "float": "a number, such as 1e-3", "bool": "true or false"}
_MODES = {
    "train": "train or resume, then evaluate",
    "time": "run training steps for ten seconds, say what they cost, and keep nothing but that",
    "eval": "evaluate a checkpoint",
    "analyze": "attention scores of a checkpoint, and on grids the energy spectrum of its predictions",
}


def define_flags(modes: tuple[str, ...] = ("train", "time", "eval")) -> None:
    """Define the flags of an experiment program, and have --help show them."""
    with shown_in_help():
        _define_flags(modes)


@contextlib.contextmanager
def shown_in_help() -> Iterator[None]:
    """Have --help show the flags that are defined meanwhile, else it shows those of the program's own file alone."""
    before = set(FLAGS)
    yield
    for name in sorted(set(FLAGS) - before):
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])


def _define_flags(modes: tuple[str, ...]) -> None:
    about = "Config file, with :variant if wanted; --config.SECTION.OPTION=VALUE changes what is in it."
    config_flags.DEFINE_config_file("config", None, about, lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder of the run; by default out/<name of the config>.")
    flags.DEFINE_string("data_dir", None, "Folder of the data sets; replaces config.data.dir.")
    flags.DEFINE_enum("mode", "train", modes, f"{'; '.join(f'{mode}: {_MODES[mode]}' for mode in modes)}.")
    flags.DEFINE_integer("step", None, "Checkpoint to evaluate or analyse; by default the newest.")
    flags.DEFINE_integer("batch_size", None, "With --mode=eval: samples per batch; by default those of the run.")
    flags.DEFINE_enum(
        "weights", None, ("ema", "raw"), "With --mode=eval: weights of the headline, instead of the run's."
    )
    flags.DEFINE_list("track", [], "Also give the log to tensorboard or mlflow, or to both.")
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    flags.DEFINE_string("coordinator_address", None, "host:port of process 0, for training on several hosts.")
    flags.DEFINE_integer("num_processes", None, "Number of processes, with --coordinator_address.")
    flags.DEFINE_integer("process_id", None, "Number of this process from 0, with --coordinator_address.")


def run(main: Callable[[], None]) -> None:
    """Parse the flags and call `main`; print expected errors as one sentence and exit with status 2."""
    sys.argv[1:] = _one_config([with_own_config(text) for text in sys.argv[1:]])
    debug = "--debug" in sys.argv or "--debug=true" in sys.argv
    if not debug:
        _silence_writer_threads()
    try:
        if help.wanted(sys.argv[1:]):
            path = _config_path(sys.argv[1:])
            print(help.text(FLAGS, None if path is None else load_config(path)))
            return
        _parse(sys.argv)
        main()
        peers.leave()
    except signals.Interrupted as stop:
        peers.leave()
        print(stop, file=sys.stderr, flush=True)
        sys.exit(stop.status)
    except Exception as error:
        signals.settle()
        peers.settle()
        # ValueError is what the library and the loaders raise for bad input, OSError what files do.
        expected = isinstance(error, UserError | ValueError | OSError | MemoryError | OverflowError | flags.Error)
        words = of_the_machine(error) or (sentence(error) if expected else None)
        if debug or words is None:
            raise
        print(f"error: {words}", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER_ERROR)


def _silence_writer_threads() -> None:
    """Keep the tracebacks of failed checkpoint writes off the console; the error itself arrives as a UserError.

    Orbax logs them, asyncio logs what nobody awaited after the first failure, and TensorStore's threads report the
    event loop that was closed under them.
    """
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")

    def report(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = report


def _parse(argv: list[str]) -> None:
    # Checked first: config_flags reports a missing file or a wrong option by a traceback inside a message.
    _check_overrides(argv[1:])
    try:
        rest = FLAGS(argv)
    except flags.IllegalFlagValueError as error:
        raise _of_flag(error) from error
    except flags.UnrecognizedFlagError as error:
        name, known = error.flagname, [flag.name for flag in FLAGS.get_key_flags_for_module(argv[0])]
        raise UserError(
            f"there is no option --{name}{did_you_mean(name, known)}; --help lists those there are"
        ) from error
    except TypeError as error:
        raise UserError(f"an option has a value of the wrong type ({sentence(error)})") from error
    if len(rest) > 1:
        raise UserError(f"arguments {rest[1:]} are not understood; options are written --name=value")


def _check_overrides(arguments: list[str]) -> None:
    """Load the config file and check that every --config.… option exists in it."""
    path = _config_path(arguments)
    given = [(match[1], match[2]) for text in arguments if (match := re.match(r"--?config\.([^=]+)(?:=(.*))?$", text))]
    if path == "":
        raise UserError("--config= is empty; name a config file, such as configs/flare_elas.py")
    mode = next((match[1] for text in arguments if (match := re.match(r"--?mode=(.+)$", text))), "train")
    modes = FLAGS["mode"].parser.enum_values if "mode" in FLAGS else [mode]
    if mode not in modes:
        raise UserError(f"--mode={mode} is unknown{did_you_mean(mode, modes)}; choose one of {', '.join(modes)}")
    if mode not in CONFIGURED and any(name == "data.path" for name, _ in given):
        workdir = next((match[1] for text in arguments if (match := re.match(r"--?workdir=(.+)$", text))), "FOLDER")
        raise UserError(
            f"--mode={mode} takes the data that the run was trained with, and config.data.path would have no effect; "
            f"for other files use experiments.predict: python -m experiments.predict --workdir={workdir} --input=FILES "
            "--output=FOLDER"
        )
    if path is None:
        if given and mode not in CONFIGURED:
            raise UserError(f"--mode={mode} takes the config from the workdir; leave --config.{given[0][0]} out")
        if given:
            raise UserError(f"option config.{given[0][0]} needs --config=FILE")
        return
    known = flatten(load_config(path))
    for name, text in given:
        if name not in known:
            moved = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]]
            near = moved or difflib.get_close_matches(name, known, n=1)
            sections = ", ".join(sorted({key.split(".")[0] for key in known}))
            hint = f"did you mean config.{near[0]}?" if near else f"the sections are {sections}"
            raise UserError(f"option config.{name} does not exist; {hint}")
        if text is not None:
            check_value(name, text, known[name])


def with_own_config(argument: str) -> str:
    """Return `--config=configs/FILE` with the place of the config that comes with the project, where none is here."""
    match = re.match(r"(--?config=)(configs/[^:]*)(.*)$", argument)
    return argument if match is None else f"{match[1]}{own_file(match[2])}{match[3]}"


def _one_config(arguments: list[str]) -> list[str]:
    """Return the arguments with the last --config= alone, of every flag the last counts, and before its options."""
    files = [text for text in arguments if re.match(r"--?config=", text)]
    return files[-1:] + [text for text in arguments if text not in files]


def own_file(path: str) -> str:
    """Return the place of a file in configs/ or studies/ that comes with the project, where none is here."""
    own = ROOT / path
    ours = path.startswith(("configs/", "studies/")) and not Path(path).is_file() and own.is_file()
    return str(own) if ours else path


def _config_path(arguments: list[str]) -> str | None:
    """Return what follows the last --config=, which is the one that counts, or None."""
    return next((match[1] for text in reversed(arguments) if (match := re.match(r"--?config=(.*)$", text))), None)


def load_config(path: str) -> ConfigDict:
    """Return the configuration of `path.py` or `path.py:variant`; raises UserError where there is none."""
    file, _, variant = path.partition(":")
    file = own_file(file)
    if not Path(file).is_file():
        raise UserError(f"config file {file} does not exist; the ones that come with the project are in configs/")
    try:
        get_config = runpy.run_path(file).get("get_config")
        if not callable(get_config):
            raise UserError(f"config file {file} defines no function get_config; see configs/flare_elas.py")
        config = get_config(variant) if variant else get_config()
    except UserError:
        raise
    except ValueError as error:  # most are sentences, such as those about an unknown variant
        raise UserError(f"config file {file}: {sentence(error)}") from error
    except (Exception, SystemExit) as error:
        raise _unusable(file, error) from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"get_config of {file} returns {type(config).__name__} and no ConfigDict; see configs/flare_elas.py"
        )
    return config


def _unusable(file: str, error: BaseException) -> UserError:
    """Return what is wrong with a config file, and in which line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    place = "" if line is None else f", line {line}"
    reason = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return UserError(f"config file {file} cannot be used ({type(error).__name__}: {reason}{place}); correct it")


def check_value(name: str, text: str, current: object) -> None:
    """Raise UserError for text that is no value of the option's type, which the flags would report as Python does."""
    parsers = {int: int, float: float, bool: flags.BooleanParser().parse}
    if type(current) in parsers:
        try:
            parsers[type(current)](text)
        except ValueError as error:
            words = _KINDS[type(current).__name__]
            raise UserError(f"option config.{name}={text} is not understood; it takes {words}") from error


def _of_flag(error: flags.IllegalFlagValueError) -> UserError:
    """Return in our words that the value of a flag is of another type, and other errors of flags as they are."""
    match = re.match(r"flag --(\w+)=(.*?): (invalid literal|could not convert|\('Non-boolean)", str(error))
    if match is None:
        return UserError(sentence(error))
    return UserError(f"--{match[1]}={match[2]} is not understood; it takes {_KINDS[FLAGS[match[1]].flag_type()]}")


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, object]:
    """Return the options of `config` as {dotted path: value}."""
    flat: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def overrides() -> dict[str, object]:
    """Return the options given on the command line as {dotted path: value}."""
    return dict(config_flags.get_override_values(FLAGS["config"])) if FLAGS.config is not None else {}
