"""A trained model as a function of points and inputs in the units of the data: `flare_jax.load("out/ellipses")`.

Folders are read and written by `flare_jax.convert`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike

from flare_jax import params as model_params
from flare_jax.checks import check_integer
from flare_jax.convert.trained import TrainedModel, read_trained, write_trained
from flare_jax.field_codec import FieldCodec, Fields, Inputs
from flare_jax.graph_inputs import Edges, check_edges, pad_edges
from flare_jax.layers.segment import edge_features
from flare_jax.models.pieces import why_no_pieces

# A name is kept for the cloud of a single call; those of several have their number.
_CLOUD = "the cloud"


def load(
    folder: Path | str, *, step: int | None = None, seed: int | None = None, weights: str | None = None
) -> "Surrogate":
    """Return the surrogate in the folder of a run, of a converted model that was evaluated, or of `Surrogate.save`.

    `step` chooses a checkpoint, by default the newest; `seed` one of several of a run, by default the first; `weights`
    is 'ema' or 'raw', by default those that the run reports. Raises ValueError where there is no model of steady
    fields.
    """
    return Surrogate(read_trained(folder, step, seed, weights))


class Surrogate:
    """A model of steady fields that takes and gives arrays in the units of the data.

    `inputs` and `targets` map the names of fields to their numbers of channels.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self._trained = trained
        self._codec = FieldCodec.from_json(trained.prediction)
        self._precision = None if trained.matmul_precision == "default" else trained.matmul_precision

    @property
    def inputs(self) -> dict[str, int]:
        """What must be given beside the points."""
        return dict(self._codec.inputs)

    @property
    def targets(self) -> dict[str, int]:
        """What is predicted."""
        return dict(self._codec.targets)

    @property
    def codec(self) -> FieldCodec:
        """How inputs are encoded and outputs decoded."""
        return self._codec

    @property
    def num_points(self) -> int | None:
        """The number of points of a model of one grid, None where any number will do."""
        grid = self._trained.model.options.get("grid_shape")
        return int(np.prod(grid)) if grid else None

    @property
    def edge_rows(self) -> int:
        """Rows of the edges that a model of messages takes: source, target and, with 3, the mark of a kind; else 0."""
        edge_dim = self._trained.model.options.get("edge_dim")
        return 0 if edge_dim is None else 2 + edge_dim - len(self._codec.axes)

    def __repr__(self) -> str:
        model = self._trained.model.model_type
        return f"Surrogate({model}, coordinates {self._codec.axes}, inputs {self.inputs}, targets {self.targets})"

    def predict(
        self,
        points: ArrayLike | Sequence[ArrayLike],
        inputs: Inputs | Sequence[Inputs] | None = None,
        *,
        edges: ArrayLike | Sequence[ArrayLike] | None = None,
        batch_size: int = 8,
        pad: bool = True,
        points_per_piece: int | None = None,
        name: str = _CLOUD,
    ) -> Fields | list[Fields]:
        """Return the predicted fields, {name: float64 [N, C]}, of one cloud of points [N, D] or of several.

        Several clouds are an array [B, N, D] or a sequence of arrays of any sizes; `inputs` is then a sequence of as
        many mappings, and the result is a list. A mapping of inputs has for each name an array [N, C], or [N] for one
        channel, or what is the same at all points: [C] or a number. `edges`, for models that send messages along them,
        is an array [2, E] (`edge_rows`) of one cloud, in both directions, or a sequence of them.

        Clouds are padded to few different sizes, so that few programs are compiled, and predicted `batch_size` at a
        time. Without `pad` a program is compiled for every size, which saves up to a quarter of the time of a large
        cloud. With `points_per_piece` models of FLARE and FLARE++ work on so many points at a time, for the same fields
        in less memory; None is what the run was evaluated with, 0 all points at once. `name` stands for a single cloud
        in errors. Raises ValueError for points or inputs that the model does not take, and for pieces of models
        without, before anything is compiled.
        """
        pieces = self._pieces(points_per_piece)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r} must be an integer of at least 1; choose a smaller or larger")
        if _is_one_cloud(points):
            encoded = self._encode(points, inputs, name)
            graph = check_edges(edges, self.edge_rows, len(encoded), name)
            return self._predict_all([encoded], [graph], 1, pad, pieces)[0]
        clouds = list(points)
        given = _per_cloud(inputs, len(clouds))
        encoded = [
            self._encode(cloud, one, f"cloud {number}")
            for number, (cloud, one) in enumerate(zip(clouds, given, strict=True))
        ]
        graphs = [
            check_edges(one, self.edge_rows, len(cloud), f"cloud {number}")
            for number, (one, cloud) in enumerate(zip(_edges_per_cloud(edges, len(clouds)), encoded, strict=True))
        ]
        return self._predict_all(encoded, graphs, batch_size, pad, pieces)

    def check_pieces(self, points_per_piece: int | None) -> None:
        """Raise ValueError if `predict` would refuse to work on so many points at a time."""
        self._pieces(points_per_piece)

    def sharing(self, trained: TrainedModel) -> "Surrogate":
        """Return the surrogate of another training of the same model, with the compiled programs of this one."""
        if (trained.model, trained.dtype) != (self._trained.model, self._trained.dtype):
            raise ValueError(f"the other model is {trained.model}, not {self._trained.model}; open it by itself")
        other = Surrogate(trained)
        other._compiled = self._compiled
        return other

    def save(self, folder: Path | str) -> None:
        """Write a new folder that `flare_jax.load` reads without the run; raises ValueError if something is there."""
        write_trained(folder, self._trained)

    def as_function(self) -> "tuple[Any, dict[str, np.ndarray]]":
        """Return `apply(params, x [B, N, C_in], mask [B, N] or None)` -> encoded outputs, and its parameters.

        Models of messages take a fourth argument: edges [B, E, 2 or 3], padded and sorted by target as they want them.
        """
        return self._function, dict(self._trained.params)

    def _encode(self, points: Any, inputs: Any, where: str) -> Float[np.ndarray, "N C"]:
        if not isinstance(inputs, Mapping | None):
            raise ValueError(
                f"the inputs of {where} are a {type(inputs).__name__}; give a mapping from names to arrays"
            )
        encoded = self._codec.encode(np.asarray(points), inputs or {}, where)
        if self.num_points not in (None, len(encoded)):
            raise ValueError(
                f"{where} has {len(encoded)} points, but the model is bound to a grid of {self.num_points}; give these"
            )
        return encoded

    def _pieces(self, asked: int | None) -> dict[str, int]:
        """Return the argument of the model's call for the pieces that are asked for, none for all points at once."""
        size = check_integer("points_per_piece", self._trained.points_per_piece if asked is None else asked, minimum=0)
        reason = why_no_pieces(self._abstract) if size else ""
        if reason:
            raise ValueError(f"points_per_piece={size}, but {reason}; predict with 0, which is all points at once")
        return {"points_per_piece": size} if size else {}

    def _predict_all(
        self,
        clouds: Sequence[np.ndarray],
        graphs: Sequence[Edges | None],
        batch_size: int,
        pad: bool,
        pieces: Mapping[str, int],
    ) -> list[Fields]:
        pads = pad and self.num_points is None
        sizes = [padded_length(len(cloud)) if pads else len(cloud) for cloud in clouds]
        results: dict[int, Fields] = {}
        for rows in _batches(sizes, batch_size):
            size = sizes[rows[0]]
            # Of few different sizes too: the last batch is filled up with copies of its first cloud.
            filled = [*rows, *rows[:1] * (min(batch_size, 1 << (len(rows) - 1).bit_length()) - len(rows))]
            x = np.stack([np.pad(clouds[row], [(0, size - len(clouds[row])), (0, 0)]) for row in filled])
            counts = np.array([len(clouds[row]) for row in filled])
            mask = np.arange(size) < counts[:, None] if pads else None
            graph = ()
            if self.edge_rows:
                most = max(1, *(graphs[row].shape[1] for row in filled))
                graph = (pad_edges([graphs[row] for row in filled], padded_length(most) if pads else most),)
            outputs = np.asarray(self._apply(x, mask, *graph, **pieces), np.float32)
            for row, output in zip(rows, outputs, strict=False):
                results[row] = self._codec.decode(output[: len(clouds[row])])
        return [results[row] for row in range(len(clouds))]

    def _apply(
        self, x: Float[np.ndarray, "B N C"], mask: Bool[np.ndarray, "B N"] | None, *edges: np.ndarray, **pieces: int
    ) -> Float[Array, "B N C_out"]:
        with jax.default_matmul_precision(self._precision):
            return self._compiled(self._params, x, mask, *edges, **pieces)

    @cached_property
    def _abstract(self) -> nnx.Module:
        return self._trained.model.abstract(self._trained.dtype)

    @cached_property
    def _function(self) -> Any:
        graphdef, _ = model_params.split(self._abstract)
        apply, space_dim = model_params.apply_fn(graphdef), len(self._codec.axes)
        if not self.edge_rows:
            return apply

        def with_messages(params: Any, x: Array, mask: Array | None, edges: Array, **options: Any) -> Array:
            x, edges = jnp.asarray(x), jnp.asarray(edges)
            return apply(params, x, mask, edges=edges, edge_attr=edge_features(x, edges, space_dim, mask), **options)

        return with_messages

    @cached_property
    def _compiled(self) -> Any:
        return jax.jit(self._function, static_argnames="points_per_piece")

    @cached_property
    def _params(self) -> dict[str, Array]:
        return jax.device_put(dict(sorted(self._trained.params.items())))


def padded_length(count: int) -> int:
    """Return the least of the numbers 4, 5, 6 and 7 times a power of two that is at least `count`."""
    unit = 1 << max(0, (count - 1).bit_length() - 3)
    return -(-count // unit) * unit


def _is_one_cloud(points: Any) -> bool:
    if hasattr(points, "ndim"):
        if points.ndim in (2, 3):
            return points.ndim == 2
        raise ValueError(f"the points have shape {tuple(points.shape)}; give [N, D], or [B, N, D] for several clouds")
    if isinstance(points, str | Mapping) or not isinstance(points, Iterable):
        raise ValueError(f"the points are a {type(points).__name__}; give an array [N, D], or a sequence of them")
    return not any(np.ndim(cloud) == 2 for cloud in points) and np.ndim(points) == 2


def _per_cloud(inputs: Inputs | Sequence[Inputs] | None, count: int) -> Sequence[Inputs | None]:
    if inputs is None:
        return [None] * count
    if isinstance(inputs, Mapping) or len(inputs) != count:
        given = "one mapping" if isinstance(inputs, Mapping) else f"{len(inputs)} mappings"
        raise ValueError(f"the inputs are {given} for {count} clouds; give a sequence of one mapping per cloud")
    return inputs


def _edges_per_cloud(edges: Any, count: int) -> Sequence[Any]:
    if edges is None:
        return [None] * count
    if len(edges) != count:
        raise ValueError(f"the edges are those of {len(edges)} clouds, but there are {count}; give one array per cloud")
    return list(edges)


def _batches(sizes: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield the numbers of clouds of one size, at most `batch_size` at a time."""
    by_size: dict[int, list[int]] = {}
    for row, size in enumerate(sizes):
        by_size.setdefault(size, []).append(row)
    for rows in by_size.values():
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]
