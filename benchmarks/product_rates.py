"""How fast are products of one warpgroup by their shape, and where their factors lie? Run on a Hopper GPU:

    python -m benchmarks.product_rates [--output=rates.json]

Each line is one kind of product of the kernel of all gradients (`kernels/flare_mixer/mosaic_pairs.py`) or of what could
take its place. Every multiprocessor runs one program, whose warpgroups do nothing else: `ns` is the time of one
instruction of a warpgroup over their number, `rate` the share of the tensor cores' rate that this is.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from benchmarks.command import check_gpu, check_output, exit_status
from benchmarks.programs import call_seconds, compile_all
from benchmarks.timing import device_line, print_table, write_results
from kernels._mosaic import plgpu, swizzled, why_unavailable
from kernels.flare_mixer.mosaic_launch import SIDE

HEADER = ("product", "warpgroups", "ns", "rate")
# One instruction sums up this many terms.
DEPTH = 16
# Accumulators that take turns, so that one product need not wait for the one before, and instructions between waits.
ACCUMULATORS, IN_FLIGHT = 2, 16
TURNS = 1000
# H200, H100 SXM: multiprocessors, and multiplications of bfloat16 numbers a second.
PROGRAMS, MOST_PRODUCTS = 132, 989e12 / 2
BUDGET_SECONDS = 0.1


@dataclass(frozen=True)
class Product:
    """A product of `[64, terms]` by `[terms, columns]`; the left factor may lie in registers or be stored transposed.

    The right factor is stored in rows of `width` numbers: as it is, or transposed where these are its terms.
    """

    name: str
    columns: int
    terms: int
    width: int
    left: str = "shared"

    @property
    def instructions(self) -> int:
        """How many instructions it takes."""
        return self.terms // DEPTH


PRODUCTS = (
    Product("logits, 64 columns", 64, 16, 16),
    Product("logits, 128 columns", 128, 16, 16),
    Product("sums, 16 columns", 16, 64, 16, "registers"),
    Product("sums, 16 columns, transposed copy", 16, 64, 16, "transposed"),
    Product("sums, 32 columns", 32, 64, 32, "registers"),
    Product("sums, 64 columns", 64, 64, 64, "registers"),
    Product("sums as rows, 64 columns", 64, 64, 64, "transposed"),
)


def program(product: Product, warpgroups: int, turns: int) -> Callable[[], jax.Array]:
    """Return the function that multiplies `turns` times 16 instructions in each program and gives the sums of one."""
    shape = (SIDE, product.columns)
    # Terms are the columns of what is stored where rows are as wide as there are terms.
    by_terms = product.width == product.terms and product.left == "shared"
    right_shape = (product.columns, product.terms) if by_terms else (product.terms, product.columns)
    left_shape = (product.terms, SIDE) if product.left == "transposed" else (SIDE, product.terms)

    def tile(shape: tuple[int, int]) -> Any:
        return plgpu.SMEM(shape, jnp.bfloat16, transforms=swizzled(product.width, jnp.bfloat16, SIDE))

    def body(out: Any, left: Any, right: Any) -> None:
        layout = plgpu.Layout.WGMMA
        for ref in (left, right):
            ref[...] = plgpu.layout_cast(jnp.zeros(ref.shape, jnp.bfloat16), layout)
        plgpu.commit_smem()
        factor = left
        if product.left == "registers":
            factor = plgpu.load(left, layout=layout)
        elif product.left == "transposed":
            factor = left.transpose((1, 0))
        other = right.transpose((1, 0)) if by_terms else right

        def run(*sums: Any) -> jax.Array:
            def turn(_: Any, carry: None) -> None:
                for _ in range(IN_FLIGHT // (ACCUMULATORS * product.instructions)):
                    for x in sums:
                        plgpu.wgmma(x, factor, other)
                plgpu.wgmma_wait(0)

            lax.fori_loop(0, turns, turn, None)
            return sum((x[...] for x in sums[1:]), sums[0][...])

        found = pl.run_scoped(run, *[plgpu.ACC(shape, jnp.float32)] * ACCUMULATORS)
        out.at[lax.axis_index("warpgroup")][...] = found

    return lambda: plgpu.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((warpgroups, *shape), jnp.float32),
        scratch_types=[tile(left_shape), tile(right_shape)],
        grid=(PROGRAMS,),
        grid_names=("program",),
        num_threads=warpgroups,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(unsafe_no_auto_barriers=True),
    )()


def measure(product: Product, warpgroups: int) -> tuple[str, ...]:
    """Return the row of the table of one kind of product."""
    (compiled,) = compile_all([(program(product, warpgroups, TURNS), ())])
    if compiled.compiled is None:
        return (product.name, str(warpgroups), "-", compiled.error)
    seconds = call_seconds(compiled, (), BUDGET_SECONDS)
    instructions = TURNS * IN_FLIGHT
    multiplications = PROGRAMS * warpgroups * instructions * SIDE * product.columns * DEPTH
    rate = multiplications / seconds / MOST_PRODUCTS
    return (product.name, str(warpgroups), f"{1e9 * seconds / instructions / warpgroups:.1f}", f"{rate:.0%}")


def main(arguments: Sequence[str]) -> int:
    """Time all kinds of products and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.product_rates", description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="JSON file of the results")
    options = parser.parse_args(arguments)
    check_output(options.output)
    check_gpu()
    if why_unavailable() is not None:
        raise ValueError(f"jax {jax.__version__} does not have Mosaic GPU as this takes it; install jax 0.11 or newer.")
    print(device_line(), flush=True)
    rows = []
    for product in PRODUCTS:
        for warpgroups in (1, 2, 3):
            rows.append(measure(product, warpgroups))
            print("  ".join(rows[-1]), flush=True)
    print_table(HEADER, rows)
    write_results(options.output, {"rows": [dict(zip(HEADER, row, strict=True)) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
