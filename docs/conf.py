"""How the documentation is built: `make docs` writes a site to build/docs and fails on every broken link or name."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

project = "flare_jax"
author = "the authors of flare_jax"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = "flare_jax"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# Signatures show what the caller writes, not how a default is computed.
autodoc_preserve_defaults = True
suppress_warnings = ["myst.xref_missing_included"]

_ROOT = Path(__file__).parent.parent
# Public packages, each a page of the API; the programs are described by their own --help.
_API = ("flare_jax.models", "flare_jax.mixers", "flare_jax.layers", "flare_jax.analysis", "kernels")


def setup(app: Sphinx) -> None:
    """Write the pages of the API and read docstrings as the plain prose that they are."""
    app.connect("autodoc-process-docstring", _plain_prose)
    app.connect("builder-inited", _write_api)


def _plain_prose(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings hold prose and `code`; nothing else in them is markup."""
    for i, line in enumerate(lines):
        parts = re.split(r"(`[^`]+`)", line)
        # The empty escape ends a literal that other text follows at once.
        lines[i] = "".join(
            f"`{part}`\\ " if part.startswith("`") else re.sub(r"([*|_\\])", r"\\\1", part) for part in parts
        )


def _write_api(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    for package in _API:
        names = sorted(_public_modules(package))
        text = [f"# `{package}`", "", importlib.import_module(package).__doc__ or "", ""]
        for name in names:
            text += [f"## `{name}`", "", "```{eval-rst}", f".. automodule:: {name}", "   :members:", "```", ""]
        _write_if_changed(folder / f"{package}.md", "\n".join(text))


def _public_modules(package: str) -> list[str]:
    """Return the modules of a package whose docstring and public names a user may need."""
    root = importlib.import_module(package)
    if package == "kernels":
        # The public entry of an operation is its api; everything else is how it works.
        return [f"kernels.{m.name}.api" for m in pkgutil.iter_modules(root.__path__) if m.ispkg]
    found = [m.name for m in pkgutil.walk_packages(root.__path__, f"{package}.") if not m.ispkg]
    return [name for name in found if not name.rpartition(".")[2].startswith("_")]


def _write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
