"""The shape checks of the suite find what they are for."""

import ast
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import pytest
from beartype.roar import BeartypeCallHintViolation

import flare_jax.layers
import kernels
from tests import shape_checks
from tests.shape_checks import WITHOUT
from tests.test_layout import PACKAGES, imported_packages

_MODULE = '''
from dataclasses import dataclass
from jaxtyping import Array, Float


def scale(x: Float[Array, "n d"], y: Float[Array, "n"], wrong: bool = False) -> Float[Array, "n d"]:
    """Scale."""
    return x[1:] if wrong else x * y[:, None]


def outer(x: Float[Array, "n d"], wrong: bool = False) -> Float[Array, "n d"]:
    """Sizes of the function inside are its own."""

    def inner(x: Float[Array, "1 n"]) -> Float[Array, "1"]:
        return x.sum(1)

    inner(x if wrong else x.T[:1])
    return x


class triton:
    """In the place of the package, which needs no GPU to be imported but is not everywhere."""

    jit = staticmethod(lambda function: function)


@triton.jit
def kernel(x: int) -> int:
    """Add one; left as it is, for its text is compiled."""
    return x + 1


@dataclass
class Pair:
    """Two arrays."""

    x: Float[Array, "n"]
    y: Float[Array, "n"]


class Holder:
    """Other kinds of functions."""

    @property
    def value(self) -> int:
        """Wrong."""
        return "1"

    @staticmethod
    def take(x: Float[Array, "n"]) -> None:
        """Take."""

'''


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Yield a module that was imported with shape checks."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "module_with_shapes.py").write_text(_MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", [*sys.meta_path])
        patch.syspath_prepend(folder)
        patch.delenv(WITHOUT, raising=False)
        shape_checks.install(["module_with_shapes"])
        yield importlib.import_module("module_with_shapes")
    del sys.modules["module_with_shapes"]


def test_what_fits_passes(module: ModuleType) -> None:
    """Sizes of a function are its own: not those of the function that calls it."""
    x, y = jnp.ones((3, 2)), jnp.ones(3)
    assert module.scale(x, y).shape == (3, 2)
    assert module.outer(x).shape == (3, 2)
    assert module.Pair(y, y).x is y
    module.Holder.take(y)
    assert not hasattr(module.kernel, "__wrapped__")
    assert module.kernel(1.5) == 2.5


@pytest.mark.parametrize(
    "call",
    [
        lambda module: module.scale(jnp.ones(3), jnp.ones(3)),
        lambda module: module.scale(jnp.ones((3, 2)), jnp.ones(2)),
        lambda module: module.scale(jnp.ones((3, 2)), jnp.ones(3), wrong=True),
        lambda module: module.outer(jnp.ones((3, 2)), wrong=True),
        lambda module: module.Pair(jnp.ones(3), jnp.ones(2)),
        lambda module: module.Holder().value,
        lambda module: module.Holder.take(jnp.ones((3, 1))),
    ],
    ids=["dimensions", "sizes", "result", "nested", "dataclass", "property", "staticmethod"],
)
def test_what_does_not_fit_is_found(module: ModuleType, call: Callable[[ModuleType], Any]) -> None:
    """Dimensions, equal names, results, functions inside of functions, dataclasses, all kinds of methods."""
    with pytest.raises(BeartypeCallHintViolation):
        call(module)


def test_a_pause_is_without_checks(module: ModuleType) -> None:
    """What is wrong passes in it, and is found after it."""
    with shape_checks.paused():
        module.Holder.take(jnp.ones((3, 1)))
    with pytest.raises(BeartypeCallHintViolation):
        module.Holder.take(jnp.ones((3, 1)))


def test_a_package_that_is_imported_already_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions would be without checks, and nobody would know."""
    monkeypatch.delenv(WITHOUT, raising=False)
    with pytest.raises(RuntimeError, match=r"^kernels is imported before its shape checks"):
        shape_checks.install(["kernels"])


def test_files_that_pytest_reads_first_import_nothing_with_checks() -> None:
    """A test named by its path has the `conftest.py` beside it read before the checks are installed."""
    tests = Path(__file__).parent
    for path in tests.glob("*/**/conftest.py"):
        found = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not imported_packages("\n".join(map(ast.unparse, found))) & {"tests", *PACKAGES}, path


@pytest.mark.skipif(bool(os.environ.get(WITHOUT)), reason=f"{WITHOUT} is set")
def test_the_library_is_checked() -> None:
    """The packages that the tests import have the checks."""
    with pytest.raises(BeartypeCallHintViolation):
        kernels.flare_mixer(jnp.ones((1, 2, 4)), jnp.ones((3, 5, 2)), jnp.ones((3, 5, 2)))
    with pytest.raises(BeartypeCallHintViolation):
        flare_jax.layers.Linear(jnp.ones(2), 3, rngs=None)
