"""What a program is lowered for, and functions that are decided when it is known.

Which kernel suits, and whether one can be compiled at all, depends on the device that a program will run on. That is
known only when the program is lowered: one traced on a GPU machine may be meant for its CPU, and `jax.export` lowers
for devices that this machine does not have. `on_target` is therefore an operation of its own in the traced program,
which is replaced by what it stands for when the program is lowered, once for each platform.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kernels._sharding import outside_mesh, plain_type, typed_like, vary_alike

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# Bytes of shared memory that one program can have, by compute capability: CUDA C++ Programming Guide, "Compute
# Capabilities". A capability between two entries has what the one below has.
_SHARED_MEMORY = {(7, 0): 96, (7, 5): 64, (8, 0): 163, (8, 6): 99, (8, 7): 163, (8, 9): 99, (9, 0): 227, (12, 0): 99}
# Assumed where a program is lowered for CUDA on a machine without a GPU, as Pallas does.
_ASSUMED_CAPABILITY = (9, 0)
_ASSUMED_DEVICE = "NVIDIA H100"


@dataclass(frozen=True)
class Target:
    """The platform that a program is lowered for, "cpu", "cuda", "rocm" or "tpu", and a CUDA GPU's capability.

    `copies` is how many times the call runs side by side under `jax.vmap`: one alone has to fill the device, many share
    it.
    """

    platform: str
    capability: tuple[int, int] = (0, 0)
    copies: int = 1

    @classmethod
    def of(cls, platform: str) -> "Target":
        """Return the target for programs of `platform` lowered here."""
        if platform != "cuda":
            return cls(platform)
        device = _local_gpu()
        text = "" if device is None else str(getattr(device, "compute_capability", ""))
        return cls(platform, tuple(map(int, text.split("."))) if text else _ASSUMED_CAPABILITY)

    @property
    def compiled(self) -> bool:
        """Whether kernels are compiled; elsewhere they run in the Pallas interpreter, which is meant for tests."""
        return self.platform in ("cuda", "rocm")

    @property
    def shared_memory(self) -> int:
        """Bytes of shared memory that one program can have on a CUDA GPU."""
        known = [capability for capability in _SHARED_MEMORY if capability <= self.capability]
        return _SHARED_MEMORY[max(known)] * 1024 if known else 0

    def __str__(self) -> str:
        capability = ".".join(map(str, self.capability))
        return f"NVIDIA GPU of compute capability {capability}" if self.platform == "cuda" else self.platform


def platform() -> str:
    """Return the platform that computations go to by default: "cpu", "cuda", "rocm" or "tpu"."""
    device = jax.config.jax_default_device
    if isinstance(device, str):
        return {"gpu": _platform_of(_local_gpu())}.get(device, device)
    return _platform_of(device if device is not None else jax.local_devices()[0])


def _platform_of(device: Any) -> str:
    """Return the platform of a device; JAX itself calls those of CUDA and of ROCm "gpu"."""
    if device.platform != "gpu":
        return device.platform
    return "rocm" if "rocm" in device.client.platform_version else "cuda"


@functools.cache
def _local_gpu() -> Any:
    try:
        return jax.local_devices(backend="gpu")[0]
    except RuntimeError:
        return None


@dataclass(frozen=True)
class _Call:
    """A function of static values, a target and trees of arrays, as a function of a target and flat arrays."""

    function: Callable[..., Any]
    static: tuple[Hashable, ...]
    structure: Any

    def flat(self, target: Target) -> Callable[..., Any]:
        """Return the function of the flat arrays for one target."""
        return lambda *arrays: self.function(*self.static, target, *self.structure.unflatten(arrays))


@dataclass(frozen=True)
class _Mapped:
    """A call mapped over an axis of its arrays by `jax.vmap`."""

    call: Any
    axes: tuple[int | None, ...]
    size: int

    def flat(self, target: Target) -> Callable[..., Any]:
        """Return the mapped function of the flat arrays for one target."""
        several = replace(target, copies=target.copies * self.size)
        return jax.vmap(self.call.flat(several), in_axes=self.axes)


@functools.lru_cache(maxsize=1024)
def _flat(call: Any, target: Target) -> Callable[..., Any]:
    """Return one function for equal calls, so that JAX traces it once for the layers of a model, and lowers it once."""
    return call.flat(target)


def on_target(function: Callable[..., Any], *operands: Any, static: tuple[Hashable, ...] = ()) -> Any:
    """Return `function(*static, target, *operands)` for the target that the program is lowered for.

    `operands` and the result are trees of arrays; shapes, dtypes and structure of the result must not depend on the
    target. `function` sees plain arrays: what `jax.shard_map` types them with is added to all of its results, so it
    cannot communicate between devices. It depends on nothing but its arguments, for it is traced once for equal ones.
    It has no derivative: call it inside of a `custom_vjp`.
    """
    arrays, structure = jax.tree.flatten(operands)
    if not any(isinstance(x, jax.core.Tracer) for x in arrays):
        return function(*static, Target.of(_platform_of_arrays(arrays)), *operands)
    call = _Call(function, static, structure)
    arrays = vary_alike(arrays)
    traced, shapes = _trace(call, arrays)
    results = _on_target.bind(*arrays, call=call, traced=traced)
    return jax.tree.structure(shapes).unflatten(results)


def _platform_of_arrays(arrays: Sequence[Any]) -> str:
    device = next((next(iter(x.devices())) for x in arrays if isinstance(x, jax.Array)), None)
    return platform() if device is None else _platform_of(device)


def _trace(call: Any, arrays: Sequence[jax.Array]) -> tuple[tuple[Target, Any], Any]:
    """Trace for the platform that is likely meant, which gives the shapes of the results for all."""
    target = Target.of(platform())
    with _outside_mesh(target):
        jaxpr, shapes = jax.make_jaxpr(_flat(call, target), return_shape=True)(*[plain_type(x) for x in arrays])
    return (target, jaxpr), shapes


def _outside_mesh(target: Target) -> Any:
    """Return the context in which functions are traced and lowered: none of a mesh.

    Pallas compiles for the default device; where that is no GPU, the context names one.
    """
    if target.platform != "cuda" or platform() == "cuda":
        return outside_mesh()
    device = _local_gpu()
    return outside_mesh(_ASSUMED_DEVICE if device is None else device.device_kind)


_on_target = Primitive("on_target")
_on_target.multiple_results = True


@_on_target.def_impl
def _run(*arrays: Any, call: Any, traced: Any) -> Any:
    target = Target.of(_platform_of_arrays(arrays))
    return jax.tree.leaves(call.flat(target)(*arrays))


@_on_target.def_abstract_eval
def _types(*types: Any, call: Any, traced: Any) -> Any:
    return [typed_like(types[0], x.shape, x.dtype) for x in traced[1].out_avals]


def _batch(arrays: Sequence[jax.Array], axes: Sequence[Any], *, call: Any, traced: Any) -> tuple[Any, Any]:
    # An axis that is not mapped is None.
    size = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
    mapped = _Mapped(call, tuple(axes), size)
    traced, _ = _trace(mapped, arrays)
    results = _on_target.bind(*arrays, call=mapped, traced=traced)
    return results, [0] * len(results)


batching.primitive_batchers[_on_target] = _batch


def _derivative(*_: Any, call: Any, traced: Any) -> Any:
    """Refuse derivatives; what is differentiated a second time arrives here."""
    raise ValueError(
        "the operations of kernels have first derivatives alone; take second ones within kernels.array_code(), "
        "whose memory grows with points times latents, or of implementation='reference'"
    )


ad.primitive_jvps[_on_target] = _derivative


def _lower(ctx: Any, *arrays: Any, call: Any, traced: Any, platform: str) -> Any:
    target, (traced_for, jaxpr) = Target.of(platform), traced
    if target == traced_for and jaxpr.effects:
        raise ValueError(
            f"a kernel that is interpreted on a {platform} has effects, which no compiled program can have here; "
            "call it outside of jax.jit, or take another implementation."
        )
    with _outside_mesh(target):
        ctx = ctx.replace(avals_in=[plain_type(x) for x in ctx.avals_in])
        if target == traced_for:
            if ctx.platforms is not None:
                ctx = ctx.replace(module_context=ctx.module_context.replace(platforms=ctx.platforms))
            return mlir.core_call_lowering(ctx, *arrays, name=f"on_{platform}", call_jaxpr=jaxpr)
        function = _flat(call, target)
        lower = mlir.lower_fun(lambda *arrays: jax.tree.leaves(function(*arrays)), multiple_results=True)
        return lower(ctx, *arrays)


for _platform in PLATFORMS:
    mlir.register_lowering(_on_target, functools.partial(_lower, platform=_platform), platform=_platform)
