"""How long does a prediction for a very large cloud take in pieces, and does it equal that of the whole? Run on a GPU:

    python -m benchmarks.clouds --points=8388608 --model=flarepp
    python -m benchmarks.clouds --points=1048576 --model=flare --whole     (also at once, for time and difference)

Random points, a model of published width with random parameters, one sample. `pieces` is one program whose blocks work
on pieces, `cloud` the library call that keeps the points on the host between blocks.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import device_line, print_table, write_results
from experiments.training.costs import allocator_peak
from flare_jax.models import build_model
from flare_jax.models.clouds import CloudModel
from flare_jax.parameter_keys import ParameterKeys
from flare_jax.params import apply_fn, split


def timed(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the result of a second call and its seconds; the first one compiles."""
    call()
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


def main(arguments: Sequence[str]) -> int:
    """Time the ways to predict and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clouds", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=2**23, help="points of the cloud")
    parser.add_argument("--piece", type=int, default=2**16, help="points of a piece")
    parser.add_argument("--model", default="flarepp", choices=("flare", "flarepp", "flare_pp"), help="model type")
    parser.add_argument("--channels", type=int, default=128, help="width of the model")
    parser.add_argument("--blocks", type=int, default=8, help="blocks of the model")
    parser.add_argument("--latents", type=int, default=128, help="latents of each head")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="compute dtype")
    parser.add_argument("--whole", action="store_true", help="also predict for all points at once")
    parser.add_argument("--output", help="JSON file of the results")
    options = parser.parse_args(arguments)
    sizes = {"channel_dim": options.channels, "num_blocks": options.blocks, "num_latents": options.latents}
    model = build_model(options.model, 3, 1, {**sizes, "num_heads": 8}, rngs=ParameterKeys(0), dtype=options.dtype)
    graphdef, params = split(model)
    apply = jax.jit(apply_fn(graphdef), static_argnames="points_per_piece")
    x = np.random.default_rng(0).random((1, options.points, 3), np.float32)
    cloud = CloudModel(model, points_per_piece=options.piece)
    # The smallest first, since the peak of memory is that of all calls so far.
    ways: dict[str, Callable[[], np.ndarray]] = {
        "cloud": lambda: cloud(x),
        "pieces": lambda: np.asarray(apply(params, jnp.asarray(x), points_per_piece=options.piece)),
    }
    if options.whole:
        ways["whole"] = lambda: np.asarray(apply(params, jnp.asarray(x)))
    rows, results = [], {}
    with jax.default_matmul_precision("highest"):
        for name, call in ways.items():
            y, seconds = timed(call)
            peak = allocator_peak()
            first = results.setdefault("cloud", {"prediction": y})["prediction"]
            difference = float(np.linalg.norm(y - first) / np.linalg.norm(first))
            results.setdefault(name, {}).update(seconds=seconds, peak_bytes=peak, difference=difference)
            gib = "-" if peak is None else f"{peak / 2**30:.2f}"
            rows.append((name, f"{seconds:.2f}", gib, f"{difference:.1e}"))
    print(f"{options.model}, {options.points} points, {options.dtype}, {sizes}, {device_line()}")
    print_table(("way", "s", "peak GiB so far", "difference from cloud"), rows)
    del results["cloud"]["prediction"]
    write_results(options.output, {**vars(options), "ways": results})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
