"""Predict with an exported model: `python predict_jax.py model.jax cloud.npz fields.npz`, by jax and flatbuffers alone.

`cloud.npz` holds `points` [N, D] and every input [N, C] under its name, in the units of the training data.
"""

import sys
from pathlib import Path

import jax
import numpy as np


def main(model: str, cloud: str, output: str) -> None:
    """Write the predicted fields [N, C] by name, and print their means."""
    exported = jax.export.deserialize(bytearray(Path(model).read_bytes()))
    with np.load(cloud) as file:
        arrays = {name: file[name].astype(np.float32) for name in file.files}
    points = arrays.pop("points")
    fields = {name: np.asarray(field) for name, field in exported.call(points, arrays).items()}
    np.savez(output, **fields)
    for name, field in fields.items():
        print(name, field.shape, "mean", field.mean(axis=0), "on", jax.devices()[0].platform)


if __name__ == "__main__":
    main(*sys.argv[1:])
