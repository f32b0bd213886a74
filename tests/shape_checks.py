"""Shape checks of every function of a package: beartype on its annotations, sizes of one name equal within one call.

What `jaxtyping.install_import_hook` does, in one pass over a call instead of three, and without binding its signature:
most of the tests' time is tracing, of which the checks would be a seventh.
"""

import ast
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from jaxtyping import jaxtyped

try:
    from beartype import beartype
except ImportError:
    beartype = None

# The environment variable that tells the suite to do without shape checks.
WITHOUT = "FLARE_JAX_WITHOUT_SHAPE_CHECKS"
_NAME = "__check_shapes__"
_paused = False


def install(packages: Sequence[str]) -> None:
    """Check the functions of all modules of these packages that are imported from now on.

    Raises ImportError without beartype: shape checks are part of the suite, unless it is told to do without them. One
    that is imported already, whose functions would go unchecked, is a RuntimeError.
    """
    if os.environ.get(WITHOUT):
        return
    early = [name for name in packages if name in sys.modules]
    if early:
        raise RuntimeError(
            f"{early[0]} is imported before its shape checks are installed; import it in functions of conftest.py"
        )
    if beartype is None:
        raise ImportError(
            "beartype, which checks shapes in the tests, is missing; install flare_jax[test], or set "
            f"{WITHOUT}=1 to run without shape checks"
        )
    sys.meta_path.insert(0, _Finder(packages))


@contextmanager
def paused() -> Iterator[None]:
    """Check nothing meanwhile: what is told of wrong arguments where there are no such checks, as with users."""
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


def check_shapes(x: Any) -> Any:
    """Return a function that checks its arguments and its result, or a dataclass whose `__init__` does."""
    if isinstance(x, type):
        if is_dataclass(x) and "__init__" in vars(x):
            x.__init__ = check_shapes(x.__init__)
        return x
    return _checked_when_called(x, sized=_names_sizes(x))


def _names_sizes(function: Callable[..., Any]) -> bool:
    """Return whether annotations are of arrays, or are not known yet."""
    annotations = getattr(function, "__annotations__", {}).values()
    return any(isinstance(x, str) or "jaxtyping." in repr(x) for x in annotations)


def _checked_when_called(function: Callable[..., Any], *, sized: bool) -> Callable[..., Any]:
    """Return the function with its check, which is made for the first call: most functions are never called.

    Where it names sizes, these are its own in every call.
    """
    checked: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if _paused:
            return function(*args, **kwargs)
        if checked is None:
            checked = beartype(function)
        if not sized:
            return checked(*args, **kwargs)
        with jaxtyped("context"):
            return checked(*args, **kwargs)

    return call


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self._packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # Not from the compiled file, which is that of the module without checks.
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def source_to_code(self, data: bytes, path: str, *, _optimize: int = -1) -> CodeType:
        tree = ast.parse(data, path)
        for node in ast.walk(tree):
            # The innermost decorator of a function, which sees its annotations; the outermost of a class, which sees
            # what `dataclass` made of it.
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_kernel(node):
                node.decorator_list.append(_decorator(node))
            elif isinstance(node, ast.ClassDef):
                node.decorator_list.insert(0, _decorator(node))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _NAME, check_shapes)
        super().exec_module(module)


def _is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function is source text for Triton, which never runs as Python."""
    return any(ast.unparse(decorator).startswith("triton.jit") for decorator in node.decorator_list)


def _decorator(node: ast.stmt) -> ast.Name:
    return ast.fix_missing_locations(ast.copy_location(ast.Name(_NAME, ast.Load()), node))
