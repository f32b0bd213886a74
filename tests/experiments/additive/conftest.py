"""Data and runs that the tests of printed parts share: each is made once for all of them in a process.

What the tests share with this file is imported in the fixtures, after the shape checks were installed.
"""

import pytest

_TINY = (
    "--config.model.channel_dim=8", "--config.model.num_blocks=1", "--config.data.n_train=4", "--config.data.n_test=2",
    "--config.train.batch_size=2", "--config.train.epochs=0", "--config.train.steps=6",
)  # fmt: skip


@pytest.fixture(scope="session")
def final_data(tmp_path_factory):
    """Return the data root of parts in their final state."""
    from tests.experiments.additive import parts

    folder = tmp_path_factory.mktemp("final")
    parts.write_final(folder)
    return folder


@pytest.fixture(scope="session")
def final_run(final_data, tmp_path_factory):
    """Return the folder of a small graph network trained on displacement and stress together."""
    from tests.experiments.programs import pdebench

    folder = tmp_path_factory.mktemp("final_run")
    result = pdebench(
        "--config=configs/am_final.py:model=mesh_graph_net,smoke", *_TINY, "--config.data.source=files",
        "--config.data.fields=disp_z,vm", "--config.data.distance_features=True", "--config.data.buckets=2",
        f"--data_dir={final_data}", f"--workdir={folder}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="session")
def series_data(tmp_path_factory):
    """Return the data root of series of parts."""
    from tests.experiments.additive import parts

    folder = tmp_path_factory.mktemp("series")
    parts.write_series(folder / "LPBF_FLARE" / "series")
    return folder


@pytest.fixture(scope="session")
def series_run(series_data, tmp_path_factory):
    """Return the folder of a small graph network trained on two of the three fields: each is drawn three times."""
    from tests.experiments.programs import pdebench

    folder = tmp_path_factory.mktemp("series_run")
    result = pdebench(
        "--config=configs/am_series.py:model=mesh_graph_net,smoke", *_TINY, "--config.task.fill_new_layer=True",
        "--config.task.noise=0.01", "--config.task.symmetries=True", "--config.data.buckets=1",
        "--config.data.fields=disp_z,vm",
        f"--data_dir={series_data}", f"--workdir={folder}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "new nodes like the nearest below" in result.stdout
    return folder


@pytest.fixture(scope="session")
def cube(tmp_path_factory):
    """Return the STL file of a block of 9 × 6 × 3 mm."""
    pv = pytest.importorskip("pyvista")
    path = tmp_path_factory.mktemp("stl") / "cube.stl"
    pv.Box((100, 109, 0, 6, -5, -2)).triangulate().save(path)
    return path
