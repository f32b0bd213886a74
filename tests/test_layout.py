"""Imports between the packages point downwards only."""

import ast
import graphlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

import flare_jax

ROOT = Path(__file__).parent.parent
# From bottom to top; a package may import itself and those on lower lines.
LAYERS = (
    ("kernels", "runtime"),
    ("flare_jax", "data_pipeline"),
    ("experiments",),
    ("configs",),
    ("benchmarks",),
    ("studies",),
)
PACKAGES = [package for layer in LAYERS for package in layer]


def allowed_imports(package: str) -> set[str]:
    """Return our packages that `package` may import."""
    level = next(i for i, layer in enumerate(LAYERS) if package in layer)
    return {package}.union(*LAYERS[:level])


def imported_packages(source: str) -> set[str]:
    """Return the top-level names that a module imports, at whatever depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def upward_imports(package: str, source: str) -> set[str]:
    """Return the packages of ours, tests included, that a module of `package` imports against the order."""
    ours = {*PACKAGES, "tests"}
    return (imported_packages(source) & ours) - allowed_imports(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_downwards(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no modules found in {package}"
    upward = {str(f.relative_to(ROOT)): found for f in files if (found := upward_imports(package, f.read_text()))}
    assert not upward


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("kernels", "from flare_jax.layers import Linear"),
        ("kernels", "def f():\n    import flare_jax.models"),
        ("flare_jax", "import data_pipeline"),
        ("data_pipeline", "from flare_jax import models"),
        ("flare_jax", "from experiments.training import state"),
        ("experiments", "from tests import numerics"),
    ],
)
def test_upward_imports_are_found(package, source):
    assert upward_imports(package, source)


def test_downward_imports_are_allowed():
    assert not upward_imports("experiments", "import jax\nfrom flare_jax import models\nimport kernels.flare_mixer\n")


def imported_modules(name: str, path: Path, modules: Mapping[str, Path]) -> set[str]:
    """Return the modules among `modules` that one of them imports, at whatever depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in modules else node.module for full in names.values()}
    return found & (modules.keys() - {name})


def test_no_modules_import_each_other_in_a_circle():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    graph = {name: imported_modules(name, path, modules) for name, path in modules.items()}
    assert "experiments.training.setup" in graph["experiments.training.loop"]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


# What JAX's types of arrays under shard_map ask for stands in one file; what no code may do, in none.
PLACES = {
    "check_vma": "kernels/_sharding.py",
    "manual_axis_type": "kernels/_sharding.py",
    "pcast": "kernels/_sharding.py",
    "ContextVar": None,  # jax.jit would not see it
    "matplotlib.use": None,
}


@pytest.mark.parametrize("word", PLACES)
def test_words_that_stand_in_one_file_or_none(word):
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if word in path.read_text()}
    assert found == ({PLACES[word]} if PLACES[word] else set())


OPERATIONS = sorted(path.parent.name for path in (ROOT / "kernels").glob("*/table.py"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_one_folder_and_a_line_in_three_places(operation):
    folder = ROOT / "kernels" / operation
    for name in ("__init__", "api", "reference", "pallas", "table", "shapes"):
        assert (folder / f"{name}.py").is_file(), name
    assert (folder / "README.md").is_file()
    for place in ("kernels/__init__.py", "tests/kernels/operations.py", "tests/kernels/test_lowering.py"):
        assert operation in (ROOT / place).read_text(), place


# Operations that call another one: the mixer the gather, the causal mixer with stablemax causal linear attention.
BUILT_ON = {"flare_mixer": "gather", "causal_flare": "causal_linear_attention"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_share_code_through_the_scaffold(operation):
    """Code of several operations lies in `kernels/_*.py`, unless one is built on another."""
    others = {*OPERATIONS} - {operation, BUILT_ON.get(operation)}
    for path in (ROOT / "kernels" / operation).glob("*.py"):
        if path.name != "shapes.py":
            used = {other for other in others if f"from kernels.{other}" in path.read_text()}
            assert not used, f"{path.name} imports {used}"


def test_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert flare_jax.__version__ == project["version"]
