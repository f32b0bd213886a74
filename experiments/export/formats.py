"""The two formats: an artefact of jax.export, and ONNX through jax2onnx; each gives a file and how to run it."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.errors import UserError
from experiments.export.function import ExportedFunction

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
PLATFORMS = ("cpu", "cuda")
# Read by every runtime of the last years; nothing here needs a newer one.
_OPSET = 21


def write_jax(function: ExportedFunction, path: Path, points: int) -> Run:
    """Write an artefact for the CPU and for CUDA and return a function that runs the file."""
    size = points or jax.export.symbolic_shape("n")[0]
    shapes = [jax.ShapeDtypeStruct((size, width), jnp.float32) for width in function.inputs.values()]
    names = list(function.inputs)[1:]

    def named(points: jax.Array, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        fields = function.call(points, *(inputs[name] for name in names))
        return dict(zip(function.outputs, fields, strict=True))

    exported = jax.export.export(jax.jit(named), platforms=PLATFORMS)(
        shapes[0], dict(zip(names, shapes[1:], strict=True))
    )
    try:
        path.write_bytes(exported.serialize())
    except ImportError as error:
        raise UserError("jax.export needs the package flatbuffers; run pip install 'flare_jax[export]'") from error
    read = jax.export.deserialize(bytearray(path.read_bytes()))

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        fields = read.call(arrays[0], dict(zip(names, arrays[1:], strict=True)))
        return [np.asarray(fields[name]) for name in function.outputs]

    return run


def write_onnx(function: ExportedFunction, path: Path, points: int) -> Run:
    """Write an ONNX model and return a function that runs the file by onnxruntime."""
    convert, onnx, runtime = _onnx_packages()
    # Messages about intermediate values whose types are not recorded, which no runtime needs.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    model = convert(
        function.call,
        inputs=[(points or "N", width) for width in function.inputs.values()],
        model_name=path.stem,
        opset=_OPSET,
        input_names=list(function.inputs),
        output_names=_output_names(function),
    )
    onnx.save(model, path)
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of constants that it folds away
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return session.run(_output_names(function), dict(zip(function.inputs, arrays, strict=True)))

    return run


def _output_names(function: ExportedFunction) -> list[str]:
    """Return names of results that none of the arguments has."""
    return [f"{name}_predicted" if name in function.inputs else name for name in function.outputs]


def _onnx_packages() -> tuple[Any, Any, Any]:
    try:
        import onnx
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(
            f"ONNX needs the package {error.name}; run pip install 'flare_jax[export]', then pip install --no-deps "
            "jax2onnx, which asks for an older orbax-checkpoint that it does not use here"
        ) from error
    return to_onnx, onnx, onnxruntime


WRITERS: dict[str, Callable[[ExportedFunction, Path, int], Run]] = {".jax": write_jax, ".onnx": write_onnx}
