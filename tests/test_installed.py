"""The project as an installed package: what the wheel holds, its programs, packages of the same names."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

import flare_jax_programs
from experiments import cli
from experiments.sweep.runs import plan_runs
from experiments.sweep.study import load_study
from flare_jax_programs import MARK, PACKAGES, PROGRAMS, check_packages

ROOT = Path(__file__).parent.parent


def test_every_package_is_in_the_wheel_and_bears_the_mark():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = set(find_packages(ROOT, include=settings["tool"]["setuptools"]["packages"]["find"]["include"]))
    assert settings["tool"]["setuptools"]["py-modules"] == [flare_jax_programs.__name__]
    for name in (*PACKAGES, "benchmarks", "studies"):
        folders = {path.parent for path in (ROOT / name).rglob("*.py")}
        missing = {".".join(folder.relative_to(ROOT).parts) for folder in folders} - found
        assert not missing, "folders without __init__.py"
        assert MARK in (ROOT / name / "__init__.py").read_text(), name
    check_packages()


def test_every_alias_is_a_program():
    for name, (module, _, about) in PROGRAMS.items():
        found = importlib.util.find_spec(module)
        assert found.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__"), name
        assert f"{name} " in flare_jax_programs.usage()
        assert about in flare_jax_programs.usage()


def run(folder, *arguments, path=(ROOT,)):
    """Run `flare-jax` outside of the repository."""
    code = "import sys, flare_jax_programs; sys.exit(flare_jax_programs.main())"
    command = [sys.executable, "-P", "-c", code, *arguments]
    environment = {"PYTHONPATH": ":".join(map(str, path)), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_programs_run_outside_of_the_repository(tmp_path):
    result = run(tmp_path, "example", "--out=data", "--num=4")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "4 samples in data\n"
    for arguments, status in ((("--help",), 0), ((), 2)):
        listed = run(tmp_path, *arguments)
        assert (listed.returncode, listed.stderr) == (status, "")
        assert "train or resume" in listed.stdout
    refused = run(tmp_path, "trian")
    assert (refused.returncode, refused.stderr.count("'trian' is no program; choose one of train, eval")) == (2, 1)


@pytest.mark.parametrize("name", ["kernels", "configs"])
def test_a_foreign_package_of_the_same_name_gives_one_sentence(tmp_path, name):
    (tmp_path / "other" / name).mkdir(parents=True)
    (tmp_path / "other" / name / "__init__.py").write_text("raise RuntimeError('never imported')\n")
    result = run(tmp_path, "example", "--out=data", path=(tmp_path / "other", ROOT))
    assert result.returncode == 2
    assert (
        f"error: the package '{name}' that Python finds, {tmp_path}/other/{name}/__init__.py, is not" in result.stderr
    )
    assert f"PYTHONPATH={ROOT}" in result.stderr
    assert "Traceback" not in result.stderr
    assert run(tmp_path, "example", "--out=data", "--num=2", path=(ROOT, tmp_path / "other")).returncode == 0


def test_configs_of_the_project_are_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argument = "--config=configs/flare_elas.py:smoke"
    assert cli.with_own_config(argument) == f"--config={ROOT}/configs/flare_elas.py:smoke"
    assert cli.with_own_config("--config=configs/none.py") == "--config=configs/none.py"
    assert cli.with_own_config("--config.train.epochs=2") == "--config.train.epochs=2"
    assert len(plan_runs(load_study("studies/num_heads.py:smoke"), tmp_path)) == 1
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "flare_elas.py").touch()
    assert cli.with_own_config(argument) == argument
