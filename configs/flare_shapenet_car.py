"""FLARE on ShapeNet-Car, 3586 points a car (250 epochs, batch 1, float32).

    python -m experiments.pdebench --config=configs/flare_shapenet_car.py
    python -m experiments.pdebench --config=configs/flare_shapenet_car.py:smoke     (minutes on two CPU cores)

No published setting of FLARE: the sizes are those for DrivAerML, length and weight decay those of the other models on
these cars. Reading the meshes needs `pip install 'flare_jax[viz]'`. The smoke variant trains on artificial stand-ins.
"""

from ml_collections import ConfigDict

from configs import pde

EXPECTED = None  # not measured


def get_config(argument: str | None = None) -> ConfigDict:
    """Return the configuration; `smoke` is a small network on few samples."""
    return pde.named(argument, "flare_shapenet_car", model="flare", data="shapenet_car")
