"""Predict with an exported model: `python predict_onnx.py model.onnx`. Needs numpy and onnxruntime alone."""

import sys

import numpy as np
import onnxruntime


def main(path: str) -> None:
    """Print the predicted fields at random points for inputs of 0.1."""
    session = onnxruntime.InferenceSession(path)
    count = 1000
    arguments = {}
    for argument in session.get_inputs():
        width = argument.shape[1]
        # points [N, D] and what is known beside them [N, C], in the units of the training data
        values = np.random.default_rng(0).uniform(-1, 1, (count, width)) if argument.name == "points" else 0.1
        arguments[argument.name] = np.broadcast_to(values, (count, width)).astype(np.float32)
    names = [result.name for result in session.get_outputs()]
    for name, field in zip(names, session.run(names, arguments), strict=True):
        print(name, field.shape, "mean", field.mean(axis=0))


if __name__ == "__main__":
    main(sys.argv[1])
