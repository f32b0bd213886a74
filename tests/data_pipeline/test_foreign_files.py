"""Files that other packages bring with them, of those that are installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from data_pipeline.errors import DataError
from data_pipeline.matlab import mat_shape, read_mat
from tests.data_pipeline.foreign_files import known_files, problem

pytest.importorskip("pyvista")
pytest.importorskip("meshio")

# Packages with meshes in their wheels, and the least number of them.
PACKAGES = {"pyvista": 8, "pymeshfix": 2, "meshcat": 3}
MATLAB = sorted((Path(scipy.io.__file__).parent / "matlab" / "tests" / "data").glob("*.mat"))


@pytest.mark.parametrize("package", PACKAGES)
def test_meshes_of_installed_packages(package):
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    # Images of millions of points take seconds.
    files = [path for path in known_files(Path(found.origin).parent) if path.suffix != ".vti"]
    assert len(files) >= PACKAGES[package]
    assert {path.name: problem(path) for path in files} == {path.name: "" for path in files}


@pytest.mark.skipif(not MATLAB, reason="scipy is installed without its tests")
def test_matlab_files_of_scipy():
    """Real arrays are those that scipy reads, all else gives a sentence."""
    real = 0
    for path in MATLAB:
        try:
            expected = {name: array for name, array in scipy.io.loadmat(path).items() if not name.startswith("__")}
        except Exception:  # what scipy's tests are about: damaged files, and those of version 7.3
            expected = {"x": None}
        for name, array in expected.items():
            try:
                read = read_mat(path, name, mat_shape(path, name))
            except DataError:
                continue
            array = array.toarray() if scipy.sparse.issparse(array) else array
            np.testing.assert_array_equal(read, array, err_msg=f"{path.name} {name}")
            real += 1
    assert real >= 30
