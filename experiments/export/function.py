"""The function that is exported: points and inputs in the units of the data in, fields in these units out."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flare_jax.convert.trained import TrainedModel
from flare_jax.surrogate import Surrogate
from kernels import array_code


@dataclass(frozen=True)
class ExportedFunction:
    """`call(points [N, D], *inputs [N, C])` -> fields [N, C], all float32, normalisation inside.

    `inputs` and `outputs` map names to numbers of channels, in the order of the arguments and of the results;
    `num_points` is the only N that a model of one grid takes. `expected` predicts the same by the surrogate.
    """

    call: Callable[..., tuple[Array, ...]]
    inputs: dict[str, int]
    outputs: dict[str, int]
    num_points: int | None
    expected: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    examples: Callable[[int], list[np.ndarray]]

    @classmethod
    def of(cls, trained: TrainedModel) -> "ExportedFunction":
        """Return the function of a trained model, in array code that every platform has, and in float32 in full.

        Raises ValueError for a model that takes edges beside points and inputs.
        """
        exact = replace(trained, dtype="float32", matmul_precision="highest")
        surrogate = Surrogate(exact)
        if surrogate.edge_rows:
            raise ValueError(
                f"the model is a {trained.model.model_type}, which takes the edges of a mesh, and exported functions "
                "take points and inputs alone; export a run of another model type"
            )
        codec = surrogate.codec
        apply, params = surrogate.as_function()
        axes, space = list(codec.axes), max(codec.axes) + 1

        def call(points: Float[Array, "N D"], *given: Float[Array, "N C"]) -> tuple[Array, ...]:
            features = jnp.concatenate([points[:, axes], *given], axis=-1)
            # The mean in two parts: coordinates far from their origin keep the digits that float32 has of them.
            high = codec.x_mean.astype(np.float32)
            low = (codec.x_mean - high).astype(np.float32)
            x = (features - high - low) / codec.x_std.astype(np.float32)
            with array_code(), jax.default_matmul_precision("highest"):
                y = apply(params, x[None], None)[0]
            slope = (codec.y_std * codec.scales).astype(np.float32)
            fields = y * slope + (codec.y_mean * codec.scales).astype(np.float32)
            ends = np.cumsum([0, *codec.targets.values()])
            return tuple(fields[:, a:b] for a, b in itertools.pairwise(ends))

        def expected(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            points, *given = arrays
            fields = surrogate.predict(points, dict(zip(codec.inputs, given, strict=True)), pad=False)
            return [fields[name] for name in codec.targets]

        def examples(count: int) -> list[np.ndarray]:
            """Return random arguments with the training's mean and spread."""
            drawn = np.random.default_rng(count).normal(size=(count, codec.c_in)) * codec.x_std + codec.x_mean
            points = np.zeros((count, space))
            points[:, axes] = drawn[:, : len(axes)]
            ends = len(axes) + np.cumsum([0, *codec.inputs.values()])
            parts = [drawn[:, a:b] for a, b in itertools.pairwise(ends)]
            return [array.astype(np.float32) for array in (points, *parts)]

        inputs = {"points": space, **codec.inputs}
        return cls(call, inputs, dict(codec.targets), surrogate.num_points, expected, examples)
