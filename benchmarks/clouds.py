"""How long does a prediction for a very large cloud take in pieces, and does it equal that of the whole? Run on a GPU:

    python -m benchmarks.clouds --points=8388608 --model=flarepp
    python -m benchmarks.clouds --points=1048576 --model=flare --whole     (also at once, for time and difference)

Random points, a model of published width with random parameters, one sample. `pieces` is one program whose blocks work
on pieces, `cloud` the library call that keeps the points on the host between blocks.
"""

import sys
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx

from benchmarks.command import ANY_DEVICE, ANY_DEVICE_HELP, check_gpu, check_output, exit_status
from benchmarks.timing import device_line, print_table, write_results
from experiments.training.costs import allocator_peak
from flare_jax.models import build_model
from flare_jax.models.clouds import CloudModel
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split
from runtime.command import Parser, integer


def timed(compile_way: Callable[[], Callable[[], np.ndarray]]) -> tuple[np.ndarray, float]:
    """Return the result of what `compile_way` returns, and its seconds."""
    call = compile_way()
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


def cloud_call(model: nnx.Module, x: np.ndarray, piece: int) -> Callable[[], np.ndarray]:
    """Return the library's call, all of whose programs two pieces of the cloud have compiled."""
    cloud = CloudModel(model, points_per_piece=piece)
    cloud(x[:, : 2 * piece])
    return lambda: cloud(x)


def program_call(model: nnx.Module, x: np.ndarray, piece: int | None) -> Callable[[], np.ndarray]:
    """Return the call of one compiled program for the whole cloud, whose blocks work on pieces if one is given."""
    graphdef, params = split(model)
    options = {} if piece is None else {"points_per_piece": piece}
    program = jax.jit(lambda params, x: apply_fn(graphdef)(params, x, **options)).lower(params, x).compile()
    return lambda: np.asarray(program(params, x))


def main(arguments: Sequence[str]) -> int:
    """Time the ways to predict and print a table."""
    parser = Parser(prog="python -m benchmarks.clouds", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=integer(1), default=2**23, help="points of the cloud")
    parser.add_argument("--piece", type=integer(1), default=2**16, help="points of a piece")
    parser.add_argument("--model", default="flarepp", choices=("flare", "flarepp", "flare_pp"), help="model type")
    parser.add_argument("--channels", type=integer(1), default=128, help="width of the model")
    parser.add_argument("--blocks", type=integer(1), default=8, help="blocks of the model")
    parser.add_argument("--latents", type=integer(1), default=128, help="latents of each head")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="compute dtype")
    parser.add_argument("--whole", action="store_true", help="also predict for all points at once")
    parser.add_argument(f"--{ANY_DEVICE}", action="store_true", help=ANY_DEVICE_HELP)
    parser.add_argument("--output", help="JSON file of the results")
    options = parser.parse_args(arguments)
    check_output(options.output)
    if not options.any_device:
        check_gpu(f"--{ANY_DEVICE}")
    sizes = {"channel_dim": options.channels, "num_blocks": options.blocks, "num_latents": options.latents}
    model = build_model(options.model, 3, 1, {**sizes, "num_heads": 8}, rngs=ParameterKeys(0), dtype=options.dtype)
    x = np.random.default_rng(0).random((1, options.points, 3), np.float32)
    # The smallest first, since the peak of memory is that of all calls so far.
    ways: dict[str, Callable[[], Callable[[], np.ndarray]]] = {
        "cloud": lambda: cloud_call(model, x, options.piece),
        "pieces": lambda: program_call(model, x, options.piece),
    }
    if options.whole:
        ways["whole"] = lambda: program_call(model, x, None)
    rows, results = [], {}
    with jax.default_matmul_precision("highest"):
        for name, compile_way in ways.items():
            y, seconds = timed(compile_way)
            peak = allocator_peak()
            first = results.setdefault("cloud", {"prediction": y})["prediction"]
            difference = float(np.linalg.norm(y - first) / np.linalg.norm(first))
            results.setdefault(name, {}).update(seconds=seconds, peak_bytes=peak, difference=difference)
            gib = "-" if peak is None else f"{peak / 2**30:.2f}"
            rows.append((name, f"{seconds:.2f}", gib, f"{difference:.1e}"))
            print(*rows[-1], flush=True)  # of a run that may be ended before it is through
    print(f"{options.model}, {options.points} points, {options.dtype}, {sizes}, {device_line()}")
    print_table(("way", "s", "peak GiB so far", "difference from cloud"), rows)
    del results["cloud"]["prediction"]
    write_results(options.output, {**vars(options), "ways": results})
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
