"""What `--help` prints: flags of the program, and options of its config with values, limits and one line each."""

import re
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

from absl import flags
from ml_collections import ConfigDict

from experiments.schema import options_of_config


def wanted(arguments: list[str]) -> bool:
    """Tell whether the command line asks for help."""
    return any(re.fullmatch(r"--?(help|helpfull|helpshort|h)", text) for text in arguments)


def text(values: flags.FlagValues, config: ConfigDict | None) -> str:
    """Return the help of the program that runs; `config` is that of its command line, if any."""
    own = [
        flag
        for module, defined in values.flags_by_module_dict().items()
        if not module.startswith(("absl.", "orbax."))
        for flag in defined
    ]
    main = sys.modules["__main__"]
    about = (getattr(main, "__doc__", None) or "").strip()
    lines = [
        f"python {_program(getattr(main, '__spec__', None))} --FLAG=VALUE ...",
        "",
        *([about, ""] if about else []),
        "Flags:",
    ]
    lines += [f"  --{flag.name}  {flag.help}{_default(flag)}" for flag in sorted(own, key=lambda flag: flag.name)]
    if config is None:
        lines += ["", "The options of a config are listed with --config=FILE --help."] if "config" in values else []
    else:
        lines += ["", "Options of the config, with their values there:", *option_lines(config)]
    return "\n".join(lines)


def _program(spec: ModuleSpec | None) -> str:
    """Return what stands behind `python`: the module, which for a package is its `__main__`, or the file."""
    return sys.argv[0] if spec is None else f"-m {spec.name.removesuffix('.__main__')}"


def _default(flag: flags.Flag) -> str:
    """Return the default of a flag that has one which says something, None and empty lists do not."""
    return "" if flag.default in (None, [], "", False) else f" (default: {flag.default})"


def option_lines(config: ConfigDict) -> Iterator[str]:
    """Return one line per option of a config: name, value, what it takes, what it does."""
    known = options_of_config(config)
    for name, kind, value in _flatten(config):
        if name in known:
            yield f"  --config.{name}={value}  ({known[name].expected}) {known[name].help}"
        else:
            yield f"  --config.{name}={value}  ({kind}) chosen by the config and its :variant"


def _flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, str, object]]:
    for key in config:
        if isinstance(config[key], ConfigDict):
            yield from _flatten(config[key], f"{prefix}{key}.")
        else:
            yield prefix + key, config.get_type(key).__name__, config[key]
