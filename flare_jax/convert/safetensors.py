"""Named arrays in a safetensors file, whose reading can execute nothing; the errors name the file and the remedy."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  (makes bfloat16 known to NumPy)
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as package


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays; raises ValueError for a dtype that the format lacks."""
    try:
        content = package.save({name: np.array(array, order="C") for name, array in arrays.items()})
    except SafetensorError as error:
        raise ValueError(f"{path} cannot hold these arrays ({error}); convert them to float32") from error
    path.write_bytes(content)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; raises ValueError if it is cut off or not of this format."""
    try:
        return package.load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is cut off or not a safetensors file ({error}); get the file again") from error
