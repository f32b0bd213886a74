"""README and docs are true: links lead somewhere, commands name programs, configs and options that exist."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from experiments import cli
from experiments.errors import UserError
from experiments.sweep.study import load_study

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "kernels").glob("*/README.md"),
        ROOT / "benchmarks/NOTES.md",
        ROOT / "tests/goldens/README.md",
    ]
)
LINK = re.compile(r"\]\(([^)#\s]+)")
FILE = re.compile(r"`((?:benchmarks|configs|data_pipeline|docs|experiments|flare_jax|kernels|tests)/[\w./]+)`")
COMMAND = re.compile(r"python -m (?!pip|pytest|venv)[\w.]+[^\n`|#)(]*")


def _text(page: Path) -> str:
    return page.read_text().replace("\\\n", " ")


def _commands() -> list[str]:
    found = {re.sub(r"\s+", " ", match).strip() for page in PAGES for match in COMMAND.findall(_text(page))}
    return sorted(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_exist(page):
    text = page.read_text()
    links = [link for link in LINK.findall(text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in FILE.findall(text) if "{" not in name and not (ROOT / name).exists()]
    # Pages of the site are built from files beside them, and the API from docstrings.
    assert [name for name in missing if not name.startswith("api/")] == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_commands_name_programs_configs_and_options_that_exist():
    commands = _commands()
    assert len(commands) > 20
    problems = []
    for command in commands:
        words = shlex.split(command, posix=False)
        if importlib.util.find_spec(words[2]) is None:
            problems.append(f"no program {words[2]}: {command}")
        problems += [f"{problem}: {command}" for problem in (*_config_problems(words[3:]), *_study_problems(words[3:]))]
    assert problems == []


def _study_problems(words: list[str]) -> list[str]:
    """Return what is wrong with the study of a command; a placeholder such as NAME.py is not."""
    given = [word.removeprefix("--study=") for word in words if word.startswith("--study=")]
    try:
        for study in given:
            if "NAME" not in study and "FILE" not in study:
                load_study(study)
    except UserError as error:
        return [str(error)]
    return []


def _config_problems(words: list[str]) -> list[str]:
    """Return what is wrong with the config file and the options of a command; a placeholder such as <name> is not."""
    given = next((word.removeprefix("--config=") for word in words if word.startswith("--config=")), None)
    if given is None or re.search(r"[<…]|\.\.\.|FILE|^config\.yaml$", given):
        return []
    try:
        known = cli.flatten(cli.load_config(given))
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    options = [match[1] for word in words if (match := re.match(r"--config\.([\w.]+)=", word))]
    return [f"no option {option}" for option in options if option not in known]
