"""Program of tests/experiments/test_devices.py: losses and gradients of models on one device and on eight."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.collectives import collectives
from data_pipeline.dataset import PDEDataset
from data_pipeline.pde import elasticity
from experiments.training.mesh import Mesh, make_mesh
from experiments.training.optimizers import build_packing
from experiments.training.state import create_state
from experiments.training.step import make_step
from experiments.training.tasks import regression_task
from flare_jax import params as model_params
from flare_jax.models.on_devices import apply_on_devices
from flare_jax.models.registry import build_model
from flare_jax.parameter_keys import ParameterKeys
from tests.experiments.training.toy import losses_of, token_task

MESHES = {"one": (1, 1), "eight": (2, 4)}
# Points meet in latents by queries of the model, of each sample, and by what was packed before.
MODELS = {"flare": 2, "flarepp": 1, "luna": 1}


def loss_and_gradients(dataset: PDEDataset, model_type: str, num_blocks: int, mesh: Mesh) -> dict[str, Array]:
    """Return loss and gradients of a model, and of the sums over devices the bytes and whether they can overlap."""
    options = {"channel_dim": 16, "num_blocks": num_blocks, "num_heads": 4, "num_latents": 8}
    graphdef, params = model_params.split(build_model(model_type, 2, 1, options, rngs=ParameterKeys(0)))
    # 5 does not divide 972: the padding with masked points is exercised too
    task = regression_task(dataset, apply_on_devices(graphdef), points_multiple=mesh.points * 5)

    @jax.jit
    @mesh.traced
    def gradients(params: model_params.Params, arrays: dict[str, Array]) -> tuple[Array, model_params.Params]:
        return jax.value_and_grad(lambda p: jnp.mean(losses_of(task, p, arrays)))(params)

    batch_of_4 = NamedSharding(mesh.devices, P("data", "points"))
    arguments = mesh.replicate(params), {name: jax.device_put(x[:4], batch_of_4) for name, x in task.train.items()}
    program = gradients.lower(*arguments).compile()
    loss, grads = program(*arguments)
    sums = [operation[1::3] for operation in collectives(program.as_text())]  # bytes, independent operations
    return {f"{model_type} {name}": value for name, value in {"loss": loss, "sums": sums, **grads}.items()}


def step_on_tokens(mesh: Mesh) -> dict[str, Array]:
    """Return the loss of a step, and the weights after it; one device has samples with many more labels."""
    tokens, weights = token_task()
    packing, optimizer = build_packing("adamw", weights), optax.sgd(1.0)
    step = make_step(tokens, optimizer, packing, 0.0)
    state = mesh.replicate(create_state(weights, packing, optimizer, 0, ema=False))

    @jax.jit
    @mesh.traced
    def on_batch(state, batch):
        return step(state, {name: mesh.constrain_batch(value[None]) for name, value in batch.items()})

    after, metrics = on_batch(state, mesh.place_dataset(tokens.train))
    return {"tokens_loss": metrics["loss"], **{f"tokens_{name}": value for name, value in after.params.items()}}


def main(data_dir: Path, out: Path) -> None:
    """Write what is found on each mesh into a file of its name."""
    assert jax.device_count() == 8
    dataset = elasticity.load(data_dir, 16, 16)
    for name, shape in MESHES.items():
        mesh = make_mesh(*shape)
        found = step_on_tokens(mesh)
        for model_type, num_blocks in MODELS.items():
            found |= loss_and_gradients(dataset, model_type, num_blocks, mesh)
        np.savez(out / f"{name}.npz", **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
