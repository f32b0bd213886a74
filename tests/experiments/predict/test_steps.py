"""Predicted steps of series: collections that ParaView reads, and an animation."""

import numpy as np
import pytest

from data_pipeline.custom.readers import Reference
from data_pipeline.custom.sample import Contents, Sample
from data_pipeline.custom.writers import write_fields
from experiments.errors import UserError
from experiments.predict.steps import Steps
from tests.data_pipeline.custom.files import CELLS, sample


def predicted(folder, sizes, animated=True):
    steps = Steps(animated)
    for number, size in enumerate(sizes):
        given = sample(number, size)
        place = folder / f"flow_{number:04d}.vtu"
        write_fields(place, given["points"], (("triangle", CELLS),), {"pressure_predicted": given["pressure"]})
        reference = Reference(place, case=place.stem, time=0.5 * number, series="flow", number=number)
        contents = Contents({"time": np.array(0.5 * number)}, ("time",))
        pressure = given["pressure"][:, None]
        made = Sample(place.stem, given["points"], targets={"pressure": pressure})
        steps.add(reference, place, contents, made, {"pressure": pressure + 0.1})
    return steps


def test_a_collection_and_an_animation(tmp_path):
    pv = pytest.importorskip("pyvista")
    steps = predicted(tmp_path, (6, 6, 6))
    steps.write_collections(tmp_path)
    reader = pv.PVDReader(tmp_path / "flow.pvd")
    assert reader.time_values == [0.0, 0.5, 1.0]
    reader.set_active_time_value(1.0)
    np.testing.assert_allclose(reader.read()[0]["pressure_predicted"], sample(2, 6)["pressure"], rtol=1e-6)
    steps.animate(tmp_path / "a.gif", (0, 1))
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF")


def test_what_cannot_be_animated(tmp_path):
    pytest.importorskip("pyvista")
    with pytest.raises(UserError, match=r"the mesh of flow changes from step to step; look at flow.pvd instead"):
        predicted(tmp_path, (6, 7)).animate(tmp_path / "a.gif", (0, 1))
