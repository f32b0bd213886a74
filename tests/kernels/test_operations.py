"""The tables of all operations: which implementation runs on which device, and what the rows must say."""

import dataclasses

import jax
import pytest

from kernels import platform
from kernels._implementation import Implementation, Request
from kernels._operation import Choice, Launch, Operation
from kernels._target import Target
from kernels._tiling import Blocks
from tests.kernels.operations import OPERATIONS

H100, CPU = Target("cuda", (9, 0)), Target("cpu")
HEADS = [name for name in OPERATIONS if name != "residual_mlp"]


def chosen(operation: str, target: Target, dtype: str, width: int, points: int = 1000) -> str:
    return OPERATIONS[operation].resolve(None, Request(dtype, width, points)).on(target).implementation


@pytest.mark.parametrize("operation", HEADS)
@pytest.mark.parametrize(
    ("target", "dtype", "width", "implementation"),
    [
        (CPU, "float32", 16, "xla"),
        (Target("tpu"), "bfloat16", 64, "xla"),
        (Target("rocm"), "bfloat16", 64, "xla"),
        (H100, "bfloat16", 128, "pallas"),
        (Target("cuda", (7, 5)), "bfloat16", 16, "xla"),
        (H100, "bfloat16", 200, "xla"),
        (H100, "float16", 16, "xla"),
    ],
)
def test_none_follows_the_target_dtype_and_width(operation, target, dtype, width, implementation):
    assert chosen(operation, target, dtype, width) == implementation


@pytest.mark.parametrize(
    ("target", "arithmetic", "width", "rows", "implementation"),
    [
        (CPU, "tf32", 64, 1944, "reference"),
        (Target("cuda", (8, 6)), "tf32", 64, 1944, "reference"),
        (H100, "tf32", 64, 10**6, "pallas"),
        (Target("cuda", (10, 0)), "bf16", 256, 10**6, "pallas"),
        (H100, "tf32", 128, 1944, "pallas"),
        (H100, "tf32", 128, 10**6, "reference"),
        (H100, "tf32", 200, 10**6, "pallas"),
        (H100, "float32", 64, 8192, "pallas"),
        (H100, "float32", 64, 8193, "reference"),
    ],
)
def test_residual_mlp_follows_the_measurements(target, arithmetic, width, rows, implementation):
    assert chosen("residual_mlp", target, arithmetic, width, rows) == implementation


@pytest.mark.parametrize("operation", HEADS)
def test_kernels_are_not_interpreted_in_64_bits(operation):
    request = Request("float32", 16, 1000)
    with jax.enable_x64(True):
        assert OPERATIONS[operation].resolve("pallas", request).on(H100).implementation == "pallas"
        with pytest.raises(
            ValueError, match=r"'pallas' is interpreted by JAX on a cpu, which cannot .* use implementation 'xla'"
        ):
            OPERATIONS[operation].resolve("pallas", request).on(CPU)


def test_triton_is_chosen_where_it_is_installed_and_faster(monkeypatch):
    monkeypatch.setattr(Implementation, "missing", lambda self: [])
    for dtype, width, implementation in (("bfloat16", 32, "triton"), ("bfloat16", 128, "pallas")):
        assert chosen("triple_attention", H100, dtype, width) == implementation
    monkeypatch.setattr(Implementation, "missing", lambda self: list(self.packages))
    assert chosen("triple_attention", H100, "bfloat16", 32) == "pallas"
    with pytest.raises(ValueError, match=r"needs triton and jax_triton, not installed here; run pip .*\[triton\]"):
        OPERATIONS["triple_attention"].resolve("triton", Request("bfloat16", 16)).on(H100)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_rows_are_complete(operation):
    with_kernels = {row.implementation for row in operation.launches}
    for row in operation.launches:
        assert row.measured
        assert row.fits(H100)
        assert row.width <= operation[row.implementation].width
        # Every row is the first one for something, or for GPUs on which those before it do not fit.
        rows = operation.launches_for(row.implementation, Request(row.dtype, row.width, row.points or 10**7))
        assert all(row.shared_memory < x.shared_memory for x in rows[: rows.index(row)])
    for choice in operation.choices:
        assert choice.measured
        for dtype in choice.dtypes if choice.implementation in with_kernels else ():
            for width, points in ((1, 1), (choice.width, choice.points or 10**7)):
                assert operation.launch_for(choice.implementation, Request(dtype, width, points)) is not None


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_tiles_have_sides_that_tensor_cores_multiply(operation):
    def check(blocks):
        for field in dataclasses.fields(blocks):
            value = getattr(blocks, field.name)
            if dataclasses.is_dataclass(value):
                check(value)
            elif field.name in ("points", "latents", "columns", "tokens", "long_tokens", "rows"):
                assert value >= 16
                assert value & (value - 1) == 0
            elif field.name == "warps":
                assert value in (1, 2, 4, 8, 16)

    for row in operation.launches:
        check(row.blocks)


class Tiles:
    """Blocks that need 200 KiB of shared memory."""

    def shared_bytes(self, width: int, item: int) -> int:
        return 200 * 1024


def needing(blocks, **needs) -> Operation:
    implementations = (Implementation("xla"), Implementation("pallas", ("float32",), 64, ("cpu", "cuda")))
    launch = Launch("float32", 64, blocks, measured="here", **needs)
    return Operation("op", implementations, (Choice("pallas", ("float32",), 64),), (launch,))


@pytest.mark.parametrize(
    "operation",
    [needing(Blocks(16, 16, 1, 4), capability=(9, 0)), needing(Tiles())],
    ids=["capability", "shared memory"],
)
def test_a_gpu_that_a_row_does_not_fit_takes_xla(operation):
    request = Request("float32", 16)
    assert operation.resolve(None, request).on(H100).implementation == "pallas"
    assert operation.resolve(None, request).on(Target("cuda", (8, 6))).implementation == "xla"
    assert operation.resolve("pallas", request).on(CPU).implementation == "pallas"
    with pytest.raises(
        ValueError, match=r"'pallas' needs an NVIDIA GPU of compute capability .* 8.6, with 99 KiB; use"
    ):
        operation.resolve("pallas", request).on(Target("cuda", (8, 6)))


def test_what_runs_can_be_said():
    served = OPERATIONS["residual_mlp"].resolve(None, Request("tf32", 64, 1944)).on(H100)
    assert str(served).startswith("pallas as in the row for tf32, width up to 64, up to 2112 points (H100")
    assert str(OPERATIONS["gather"].resolve(None, Request("float32", 8)).on(CPU)) == "xla"


def test_the_platform_is_that_of_the_default_device():
    with jax.default_device(jax.devices("cpu")[0]):
        assert platform() == "cpu"


@pytest.mark.parametrize(("version", "name"), [("cuda 13.0", "cuda"), ("PJRT rocm 60000", "rocm")])
def test_gpus_are_called_what_they_are(version, name, monkeypatch):
    client = type("Client", (), {"platform_version": version})
    device = type("Device", (), {"platform": "gpu", "client": client})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert platform() == name
