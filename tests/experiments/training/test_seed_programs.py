"""What the training step of several seeds is on a GPU: the kernels of one seed, and no loop over seeds."""

import re

import jax
import jax.numpy as jnp
import pytest

from benchmarks.train_step import random_dataset, setup_of
from experiments import program
from experiments.cli import load_config
from experiments.training.sampling import Epochs, bucket_lengths
from experiments.training.step import make_chunk, make_chunk_of_seeds, make_step
from kernels._products import parts_of_rows

pytestmark = pytest.mark.slow

SEEDS, POINTS, LATENTS, CHANNELS = 5, 972, 24, 72


def shapes(tree, *leading):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*leading, *x.shape), x.dtype), tree)


def step_on_cuda(model, seeds):
    """Return the program of training steps as it is lowered for CUDA."""
    config = load_config(f"configs/pde.py:model={model},data=elasticity")
    sizes = {"num_blocks": 1, "channel_dim": CHANNELS, "num_heads": 2, "num_latents": LATENTS}
    config.model.update(sizes)
    with program.matmul_precision(config):
        setup = setup_of(config, random_dataset("elasticity", 4))
        step = make_step(setup.task, setup.optimizer, setup.packing, config.train.ema_decay)
        options = {"epochs": Epochs(bucket_lengths(setup.task, 2), 2, 1, setup.task.windows), "mesh": setup.mesh}
        number, data = jax.ShapeDtypeStruct((), jnp.int32), (shapes(setup.task.train),)
        if seeds == 1:
            chunk, states = make_chunk(step, **options), (shapes(setup.template),)
        else:
            chunk = make_chunk_of_seeds(step, batched=True, **options)
            states = shapes(setup.template, seeds), jax.ShapeDtypeStruct((seeds,), bool)
        traced = chunk.trace(*states, data, number, number, length=2)
        return traced.lower(lowering_platforms=("cuda",)).as_text()


def counts(text):
    return [sum(map(text.count, ("triton_kernel_call", "__gpu$xla.gpu.triton"))), text.count("stablehlo.while")]


@pytest.mark.parametrize("model", ["flarepp", "backbone_transolver3"])
def test_seeds_share_kernels_and_sum_over_rows_in_parts(model):
    one, several = step_on_cuda(model, 1), step_on_cuda(model, SEEDS)
    assert counts(several) == counts(one)
    if model == "flarepp":  # Transolver-3 stores its slice weights
        assert counts(one)[0] > 0
        sizes = [set(shape.split("x")) for shape in re.findall(r"tensor<([0-9x]+)x\w+>", several)]
        assert not [size for size in sizes if {str(POINTS), str(LATENTS)} <= size]
    # The gradient of a matrix is a product that contracts all rows: one for the library to cut, or parts of several.
    parts = parts_of_rows(2 * POINTS, (CHANNELS, CHANNELS), SEEDS)
    gradient = r"x{c}xf32>, tensor<{b}x{c}xf32>\) -> tensor<{o}{c}x{c}xf32>"
    whole = gradient.format(b=f"{SEEDS}x2x{POINTS}", c=CHANNELS, o=f"{SEEDS}x")
    in_parts = gradient.format(b=f"{SEEDS}x{parts}x{2 * POINTS // parts}", c=CHANNELS, o=f"{SEEDS}x{parts}x")
    assert len(re.findall(in_parts, several)) >= 4
    assert not re.findall(whole, several)
