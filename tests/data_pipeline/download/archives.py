"""Archives in memory, of the names and layouts of the published ones."""

import io
import tarfile

import numpy as np


def tar_of(files, mode="w:gz"):
    """Return a tar archive of contents by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def npy(array):
    """Return what np.save writes."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def geo_archive():
    """Return Geo-FNO.tar.gz with elasticity alone, incompressible."""
    rng = np.random.default_rng(0)
    files = {
        "Random_UnitCell_XY_10.npy": npy(rng.random((972, 2, 3)).astype(np.float32)),
        "Random_UnitCell_sigma_10.npy": npy(rng.random((972, 3)).astype(np.float32)),
    }
    return tar_of({f"Geo-FNO/elasticity/Meshes/{name}": content for name, content in files.items()})
