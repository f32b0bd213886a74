"""Errors of pressure and wall shear stress: those of an evaluation are those of the whole fields on the host."""

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

import flare_jax
from configs.custom import get_config
from data_pipeline.dataset import PDEDataset
from data_pipeline.errors import DataError
from data_pipeline.pde import nasa_crm
from experiments.pdebench.main import PROGRAM
from experiments.training.surface_metrics import surface_metrics
from experiments.training.tasks import build_task
from tests.data_pipeline.custom.test_loader import load as load_own
from tests.experiments.programs import run_here

METRICS = ("full_rel_l2", "pressure_rel_l2", "wall_shear_rel_l2", "wall_shear_vector_rel_l2")
COUNTS = {"train": (50, 40, 45), "test": (30,)}


def write_bodies(folder):
    """Write surfaces of different numbers of points; the shear is first, and another field is between."""
    number = 0
    for split, counts in COUNTS.items():
        (folder / split).mkdir(parents=True)
        for points in counts:
            rng = np.random.default_rng(number)
            fields = {
                "shear": rng.normal(size=(points, 3)) * [1e-3, 2e-3, 5e-4] + [2e-3, 0, 0],
                "heat": rng.normal(size=points),
                "pressure": 300 * rng.normal(size=points) - 200,
            }
            np.savez(folder / split / f"{number}.npz", points=rng.random((points, 3)), **fields)
            number += 1


def own(folder, surface="pressure, shear", stream="never", **options):
    given = {"inputs": "", "targets": "shear,heat,pressure", "surface": surface, "stream": stream}
    return load_own(folder, folder, **{**given, **options})


def channels_of(made: PDEDataset) -> np.ndarray:
    ends = np.cumsum([0, *made.channels.targets.values()])
    starts = dict(zip(made.channels.targets, ends, strict=False))
    return np.array([starts[made.surface.pressure], *(starts[made.surface.wall_shear] + np.arange(3))])


def check_metrics(made):
    """Compare the metrics of a wrong prediction with those of its real points."""
    task = build_task(made, lambda params, x, mask: jnp.zeros((*x.shape[:2], made.c_out)), 1, (), {})
    batch = {name: jnp.asarray(value[:]) for name, value in task.train.items()}
    rng = np.random.default_rng(5)
    prediction = batch["y"] + np.float32(0.3) * rng.normal(size=batch["y"].shape).astype(np.float32)
    channels = channels_of(made)
    mean, std = ((value * made.channels.scales)[channels] for value in (made.offset, made.y_normalizer.std))
    whole = [
        (made.in_units(np.asarray(field, np.float64))[..., channels] - mean) / std for field in (prediction, batch["y"])
    ]
    found = {name: np.asarray(task.metrics[name](prediction, batch)) for name in ("normalized_mse", *METRICS)}
    for case in range(len(batch["y"])):
        real = np.asarray(batch["mask"][case]) if "mask" in batch else slice(None)
        expected = surface_metrics(whole[0][case, real], whole[1][case, real], mean, std)
        assert found["normalized_mse"][case] == pytest.approx(expected["mse"], rel=2e-5)
        for name in METRICS:
            assert found[name][case] == pytest.approx(expected[name], rel=2e-5)


@pytest.mark.parametrize("stream", ["never", "always"])
def test_of_own_surfaces(tmp_path, stream):
    write_bodies(tmp_path)
    check_metrics(own(tmp_path, stream=stream))


def test_of_nasa_crm(tmp_path):
    (tmp_path / nasa_crm.FOLDER).mkdir()
    rng = np.random.default_rng(0)
    for name, count in ((nasa_crm.TRAIN, 2), (nasa_crm.TEST, 1)):
        with h5py.File(tmp_path / nasa_crm.FOLDER / name, "w") as file:
            for number in range(count):
                group = file.create_group(f"sample_{number}")
                for array in (*nasa_crm.COORDINATES, *nasa_crm.NORMALS, *nasa_crm.TARGETS):
                    group[array] = rng.normal(0.2, size=60)
                group.attrs.update(dict.fromkeys(nasa_crm.CONDITIONS, float(number)))
    check_metrics(nasa_crm.load(tmp_path, 2, 1))


@pytest.mark.slow
def test_a_run_reports_them(tmp_path):
    """They are those of the fields that the trained model predicts."""
    write_bodies(tmp_path / "data")
    config = get_config("smoke")
    own_data = {"path": str(tmp_path / "data"), "inputs": "", "targets": "shear,pressure", "surface": "pressure,shear"}
    small = {"channel_dim": 8, "num_blocks": 1, "num_heads": 2, "num_latents": 4}
    config.update({"data": own_data, "model": small, "train": {"epochs": 2}, "eval": {"simple_predictors": False}})
    config.figures = False
    summary = run_here(PROGRAM, config, tmp_path / "run")
    sample = np.load(tmp_path / "data" / "test" / "3.npz")
    predicted = flare_jax.load(tmp_path / "run").predict(sample["points"], {})
    fields = (predicted["pressure"], predicted["shear"]), (sample["pressure"][:, None], sample["shear"])
    expected = surface_metrics(*(np.concatenate(both, axis=1) for both in fields), np.zeros(4), np.ones(4))
    for name in METRICS:
        assert summary[f"test/{name}"] == pytest.approx(expected[name], rel=1e-4)


def test_other_data_have_none(tmp_path):
    write_bodies(tmp_path)
    made = own(tmp_path, surface="")
    task = build_task(made, lambda params, x, mask: x, 1, (), {})
    assert not set(METRICS) & set(task.metrics)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"surface": "pressure"}, "data.surface='pressure' is not understood; write the two fields as PRESSURE,SHEAR"),
        (
            {"surface": "p,shear"},
            "wants a field of one channel where it has 'p', which is none of the targets; choose among shear",
        ),
        ({"surface": "shear,pressure"}, "wants a field of one channel where it has 'shear', which has 3"),
        ({"surface": "pressure,heat"}, "wants a vector where it has 'heat', which has 1"),
        (
            {"time": "rollout"},
            "data.surface='pressure, shear' is of steady fields; leave it out with data.time=rollout",
        ),
    ],
)
def test_wrong_fields_are_refused(tmp_path, options, words):
    write_bodies(tmp_path)
    with pytest.raises(DataError, match=words):
        own(tmp_path, **options)
