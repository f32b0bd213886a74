"""The model of a run: options given as text or taken from the data set, and the inputs that its call takes."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.dataset import PDEDataset
from experiments.errors import UserError
from experiments.model_options import option_values
from experiments.training.initial import differing_names
from experiments.training.tasks.regression import check_model_takes
from flare_jax import params as model_params
from flare_jax.models.pieces import why_no_pieces
from flare_jax.models.registry import MODELS, build_model
from flare_jax.parameter_keys import ParameterKeys

FROM_DATA = "data"  # value of an option that the data set decides
# Sinusoidal embeddings of coordinates want them in the order of 100.
_COORDINATE_RANGE = 200.0


@dataclass(frozen=True)
class DataFacts:
    """What options of models may depend on; `low` and `high` are the bounds of the training inputs `x`."""

    name: str
    max_length: int
    grid_shape: tuple[int, ...] | None
    low: tuple[float, ...]
    high: tuple[float, ...]
    fun_dim: int = 0
    has_time: bool = False
    edge_dim: int = 0


def nominal_facts(section: ConfigDict) -> DataFacts:
    """Return facts of a small imagined data set, with which the options of `section` can be checked."""
    grid = (8, 8) if section.get("grid_shape") == FROM_DATA else None
    channels = max(2, section.get("space_dim") or 0)
    return DataFacts("nominal", 64, grid, (0.0,) * channels, (1.0,) * channels, edge_dim=channels)


def check_model(config: ConfigDict) -> None:
    """Trace the model on a small imagined data set, so that bad options are reported before any data is read.

    Raises UserError and ValueError for these, also for those of the task that the model cannot follow.
    """
    task = config.get("task", {})
    pieces = task.get("points_per_piece", 0)
    check_model_takes(pieces, task.get("diagnostics", 0), call_inputs(config.model.type))
    facts = nominal_facts(config.model)
    options = model_options(config.model, facts)
    _check_points_per_step(config, options)
    points = math.prod(options.get("grid_shape") or (facts.max_length,))
    # Without a space_dim all channels are coordinates.
    c_in = len(options.get("coord_min") or facts.low) if not options.get("space_dim") else len(facts.low)

    def forward() -> jax.Array:
        graphdef, params = model_params.split(build(config, options, c_in, 1, 0))
        inputs = {"x": jnp.zeros((1, points, c_in))}
        if options.get("fun_dim"):
            inputs["fx"] = jnp.zeros((1, points, options["fun_dim"]))
        if options.get("time_input"):
            inputs["time"] = jnp.zeros(1)
        if "edge_dim" in options:
            inputs["edges"] = jnp.zeros((1, points, 2), jnp.int32)
            inputs["edge_attr"] = jnp.zeros((1, points, options["edge_dim"]))
        return model_params.apply_fn(graphdef)(params, **inputs)

    jax.eval_shape(forward)
    # Whether the mixers have pieces is up to the options of the model, which its call does not show.
    reason = why_no_pieces(nnx.eval_shape(lambda: build(config, options, c_in, 1, 0))) if pieces else ""
    if reason:
        raise UserError(
            f"task.points_per_piece={pieces}, but {reason}; set it to 0 or take a model of FLARE or FLARE++"
        )


def _check_points_per_step(config: ConfigDict, options: Mapping[str, Any]) -> None:
    """Raise UserError where a step is to see random points and the model has weights for each place in their order."""
    count = config.get("data", {}).get("points_per_step", 0)
    bound = next((name for name in ("seq_len", "grid_shape") if options.get(name)), None)
    if count and bound is not None:
        raise UserError(
            f"data.points_per_step={count} takes random points of each sample, but model type {config.model.type!r} "
            f"has weights for each place in their order (model.{bound}); set it to 0, or take another model type"
        )


def data_facts(dataset: PDEDataset, points_multiple: int = 1) -> DataFacts:
    """Return the facts of a data set whose points will be padded to a multiple of `points_multiple`."""
    low, high = dataset.input_bounds()
    return DataFacts(
        dataset.name,
        -(-dataset.max_length // points_multiple) * points_multiple,
        dataset.grid_shape,
        tuple(low.tolist()),
        tuple(high.tolist()),
        dataset.fun_dim,
        dataset.has_time,
        dataset.edge_dim,
    )


def model_options(section: ConfigDict, facts: DataFacts) -> dict[str, Any]:
    """Return the constructor options of config section `model`.

    Text becomes what the option wants, the value 'data' what the data set says. Function features and
    times that the data have switch on the options that embed them, and the features of edges set their number. Raises
    UserError for text that does not fit and for facts that the data set does not have.
    """
    from_data = {
        name: _from_data(name, facts, section.get("space_dim") or len(facts.low))
        for name, value in section.items()
        if value == FROM_DATA
    }
    options = option_values(ConfigDict(section.to_dict() | from_data, type_safe=False))
    if facts.fun_dim and "fun_dim" in options:
        options["fun_dim"] = facts.fun_dim
    if facts.has_time and "time_input" in options:
        options["time_input"] = True
    if facts.edge_dim and "edge_dim" in options:
        options["edge_dim"] = facts.edge_dim
    if (facts.fun_dim or facts.has_time) and "space_dim" in options and options["space_dim"] is None:
        # Features and times that the model's call does not take become channels behind the coordinates.
        options["space_dim"] = len(facts.low)
    return options


def build(config: ConfigDict, options: Mapping[str, Any], c_in: int, c_out: int, seed: int) -> nnx.Module:
    """Return the model of a configuration, with its options already resolved by `model_options`."""
    return build_model(config.model.type, c_in, c_out, options, rngs=ParameterKeys(seed), dtype=config.train.dtype)


def width_names(config: ConfigDict, options: Mapping[str, Any], c_in: int, c_out: int) -> set[str]:
    """Return the names of the parameters whose shapes depend on the numbers of channels at input and output."""

    def shapes(c_in: int, c_out: int) -> model_params.Params:
        return model_params.split(nnx.eval_shape(lambda: build(config, options, c_in, c_out, 0)))[1]

    return differing_names(shapes(c_in, c_out), shapes(c_in + 1, c_out + 1))


def call_inputs(model_type: str) -> frozenset[str]:
    """Return the names of the arguments that the model's call takes, `x` and `mask` included."""
    return frozenset(inspect.signature(MODELS[model_type].constructor.__call__).parameters) - {"self"}


def fitting_tests(dataset: PDEDataset, options: Mapping[str, Any], say: Callable[[str], None]) -> PDEDataset:
    """Return the data set without the tests that a model of one grid cannot predict, and say which they are.

    Raises UserError if the grid does not fit the training samples or the headline test.
    """
    grid = options.get("grid_shape")
    if grid is None:
        return dataset
    points, count = math.prod(grid), dataset.train.x.shape[1]
    if count != points:
        raise UserError(
            f"model.grid_shape={tuple(grid)} has {points} points, but the samples of {dataset.name} have {count}; "
            f"set model.grid_shape={FROM_DATA} for a data set on a grid, and leave it out otherwise"
        )
    fitting = {name: split for name, split in dataset.tests.items() if split.x.shape[1] == points}
    left_out = sorted(set(dataset.tests) - set(fitting))
    if "test" in left_out:
        raise UserError(f"model.grid_shape={tuple(grid)} does not fit the test samples of {dataset.name}; leave it out")
    if left_out:
        say(f"{', '.join(left_out)} left out: this model is bound to the grid {tuple(grid)}")
    return dataclasses.replace(dataset, tests=fitting)


def check_edges_split(model_type: str, parts: int) -> None:
    """Raise UserError if a model that sends messages along edges is to share its points among `parts` devices."""
    if parts > 1 and takes_edges(model_type):
        raise UserError(
            f"mesh.points={parts}, but model type {model_type!r} sends messages between any two points of a mesh, "
            "which one device has to hold; set mesh.points=1 and split the samples by mesh.data"
        )


def takes_edges(model_type: str) -> bool:
    """Return whether a model sends messages along the edges of a mesh, and its data need them."""
    return "edges" in call_inputs(model_type)


def check_grid_split(options: Mapping[str, Any], parts: int) -> None:
    """Raise UserError if a model of one grid cannot share its points among `parts` devices: it takes no padding."""
    grid = options.get("grid_shape")
    points = math.prod(grid) if grid else 0
    if points % parts:
        divisors = ", ".join(str(d) for d in range(1, 2 * parts) if points % d == 0)
        raise UserError(
            f"mesh.points={parts} does not divide the {points} points of model.grid_shape={tuple(grid)}, which cannot "
            f"be padded; choose among {divisors}, or split the samples by mesh.data"
        )


def _from_data(name: str, facts: DataFacts, space_dim: int) -> Any:
    """Return what the data set says of option `name`; the first `space_dim` channels are coordinates."""
    if name == "grid_shape" and facts.grid_shape is None:
        raise UserError(
            f"model.grid_shape={FROM_DATA}, but the samples of data set {facts.name} are no grid; choose another data "
            "set, or a model type for point clouds"
        )
    low, high = facts.low[:space_dim], facts.high[:space_dim]
    extent = max(b - a for a, b in zip(low, high, strict=True))
    values = {
        "grid_shape": facts.grid_shape,
        "seq_len": facts.max_length,
        "coord_min": low,
        "coord_scale": _COORDINATE_RANGE / extent if extent else 1.0,
    }
    if name not in values:
        raise UserError(f"model.{name}={FROM_DATA}, but data sets decide only {', '.join(values)}; give its value")
    return values[name]
