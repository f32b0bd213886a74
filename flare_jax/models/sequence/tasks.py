"""What a sequence model has to know of its task: tokens or sequences, documents per sample, kind of head."""

import types
from collections.abc import Mapping
from dataclasses import dataclass

from flare_jax.checks import check_choice

POOLS = ("mean", "max", "cls")


@dataclass(frozen=True)
class TaskKind:
    """`token_level` tasks have one output per token, others one per sample of `documents` sequences.

    `mlp_head` puts a hidden layer into the classifier.
    """

    token_level: bool = False
    documents: int = 1
    mlp_head: bool = False


_TOKENS = TaskKind(token_level=True)

TASKS: Mapping[str, TaskKind] = types.MappingProxyType(
    {
        "listops": TaskKind(),
        "text": TaskKind(mlp_head=True),
        "retrieval": TaskKind(documents=2),
        "image": TaskKind(mlp_head=True),
        "pathfinder32": TaskKind(mlp_head=True),
        "pathfinder128": TaskKind(mlp_head=True),
        "mta-toy": TaskKind(),
        "function_composition": TaskKind(),
        "binary_relation_composition": _TOKENS,
        "quotient_binary_relation_composition": _TOKENS,
        "match3": _TOKENS,
        "sudoku": _TOKENS,
    }
)


def find_task(task: str | TaskKind) -> TaskKind:
    """Return the kind of a task given by name; a kind is returned as it is. Raises ValueError for an unknown name."""
    if isinstance(task, TaskKind):
        return task
    check_choice("task", task, TASKS)
    return TASKS[task]


def resolve_pool(task: TaskKind, pool: str) -> str | None:
    """Return how the tokens of a sequence are pooled, None for a task with one output per token."""
    check_choice("pool", pool, POOLS)
    return None if task.token_level else pool
