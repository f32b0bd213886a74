"""How the parameter names of each model differ from those of its PyTorch original, beyond the generic leaf rules."""

import types
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TorchMapping:
    """Differences of one model.

    `renames` are pairs (ours, theirs) of leading parts of a dotted name, where `*` stands for a list index; the first
    that fits applies. `unused` are leading parts of PyTorch names that the original stores and never uses.
    """

    renames: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


_FLARE = TorchMapping(renames=(("out_proj.norm", "out_proj.0"), ("out_proj.mlp", "out_proj.1")))

TORCH_MAPPINGS: Mapping[str, TorchMapping] = types.MappingProxyType(
    {
        "flare": _FLARE,
        "flare_experimental": _FLARE,
        "flare_ablations": TorchMapping(
            renames=(
                ("out_proj.norm", "out_proj.ln"),
                ("blocks.*.norm1", "blocks.*.ln1"),
                ("blocks.*.norm2", "blocks.*.ln2"),
            )
        ),
    }
)


def torch_path(path: str, mapping: TorchMapping) -> str:
    """Return the PyTorch spelling of the dotted path of a module or parameter of ours."""
    parts = path.split(".")
    for ours, theirs in mapping.renames:
        pattern = ours.split(".")
        if _starts_with(parts, pattern):
            indices = iter(part for part, wanted in zip(parts, pattern, strict=False) if wanted == "*")
            renamed = [next(indices) if part == "*" else part for part in theirs.split(".")]
            return ".".join([*renamed, *parts[len(pattern) :]])
    return path


def is_unused(torch_name: str, mapping: TorchMapping) -> bool:
    """Tell whether the original stores this entry without using it."""
    parts = torch_name.split(".")
    return any(_starts_with(parts, pattern.split(".")) for pattern in mapping.unused)


def _starts_with(parts: list[str], pattern: list[str]) -> bool:
    if len(parts) < len(pattern):
        return False
    pairs = zip(parts, pattern, strict=False)
    return all(part.isdigit() if wanted == "*" else part == wanted for part, wanted in pairs)
