"""The programs of the project under one name, `flare-jax PROGRAM ...`, and a check that its packages are its own.

Some of the packages have names that others use too. A package that imports them calls `check_packages` first: a foreign
one gives a sentence then, not an error about a name that it lacks. This module has a name of its own and imports
nothing of the project before that check.
"""

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("kernels", "runtime", "flare_jax", "data_pipeline", "experiments", "configs")
# The line by which every package of ours is known.
MARK = "# A package of flare_jax (see flare_jax_programs.py)."

# Module and arguments that come before the given ones.
PROGRAMS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "train": ("experiments.pdebench", (), "train or resume a surrogate, then evaluate it"),
    "eval": ("experiments.pdebench", ("--mode=eval",), "evaluate a run from its folder"),
    "analyze": ("experiments.pdebench", ("--mode=analyze",), "statistics and spectra of a run's attention"),
    "sweep": ("experiments.sweep", (), "make all runs, tables and figures of a study"),
    "lra": ("experiments.lra", (), "train and evaluate models of token sequences"),
    "lm": ("experiments.lm", (), "train and evaluate language models"),
    "text": ("experiments.generate", (), "continue a prompt with a trained language model"),
    "predict": ("experiments.predict", (), "predict fields on your own points or meshes"),
    "export": ("experiments.export", (), "write a run as a file for jax alone or for ONNX"),
    "inspect": ("data_pipeline.inspect", (), "say what is in a file or folder, and how to train on it"),
    "download": ("data_pipeline.download", (), "fetch public data sets"),
    "generate": ("data_pipeline.generate", (), "generate data sets by solving their physics"),
    "additive": ("data_pipeline.additive", (), "data of printed parts: extract, merge, features, filter, generate"),
    "example": ("data_pipeline.custom.example", (), "write example files of your own data"),
    "convert": ("flare_jax.convert", (), "checkpoints from and to the PyTorch original"),
    "configs": ("configs", (), "list the experiments that come with the project"),
}


def check_packages(names: Sequence[str] = PACKAGES) -> None:
    """Raise ImportError, with the place and the remedy, where one of the packages is not ours."""
    home = Path(__file__).resolve().parent
    for name in names:
        found = importlib.util.find_spec(name)
        origin = None if found is None else found.origin
        if origin is None:
            raise ImportError(f"the package {name!r} of flare_jax is missing beside {home}; install flare_jax again")
        if MARK not in Path(origin).read_text(encoding="utf-8", errors="replace"):
            raise ImportError(
                f"the package {name!r} that Python finds, {origin}, is not that of flare_jax, which has this name too; "
                f"put flare_jax first, PYTHONPATH={home}, or install it into an environment of its own"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program that the first argument names, with the others."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    try:
        check_packages()
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from runtime import signals

    signals.install("interrupted; run the same command again")
    if name in ("", "-h", "--help", "help"):
        print(usage())
        return 0 if name else 2
    if name not in PROGRAMS:
        print(f"error: {name!r} is no program; choose one of {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    module, before, _ = PROGRAMS[name]
    sys.argv = [f"flare-jax {name}", *before, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def usage() -> str:
    """Return the list of programs."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:{width}}  {about} (python -m {module})" for name, (module, _, about) in PROGRAMS.items()]
    return "\n".join(["flare-jax PROGRAM --FLAG=VALUE ...; --help after a program lists its own flags", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
