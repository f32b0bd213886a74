"""The public sets by name, and those of several files: runs, repositories."""

import json

import numpy as np
import pytest

from data_pipeline.download import __main__ as command
from data_pipeline.download import fetch
from data_pipeline.download.sources import BY_NAME, PUBLIC_SETS
from data_pipeline.language.corpus import read_documents
from data_pipeline.registry import DATASETS, find_record
from data_pipeline.sequence.registry import TASKS
from tests.data_pipeline.download.archives import tar_of
from tests.data_pipeline.download.server import Files, serving


def run(tmp_path, *arguments):
    return command.main([*arguments, f"--data_dir={tmp_path / 'data'}"])


def test_names_and_the_list(tmp_path, capsys):
    assert set(BY_NAME) <= {*DATASETS, *TASKS, "drivaerml_raw", "novels"}
    assert len({remote.name for public in PUBLIC_SETS for remote in public.files}) == sum(
        len(public.files) for public in PUBLIC_SETS
    )
    assert run(tmp_path, "--list") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BY_NAME)
    assert "https://huggingface.co/datasets/vedantpuri/PDESurrogates/resolve/main/FNO.tar.gz" in listed
    for name, words in (("drivaerml_50k", "has no public source"), ("lra_pickles", "need an account")):
        assert run(tmp_path, "elasticity", name) == 2
        assert words in capsys.readouterr().err
    for name, runs, words in (
        ("drivaerml_raw", "1-3,167", "--runs names 167, but of drivaerml_raw only 484 runs of 1 to 500 are published"),
        ("elasticity", "1", "elasticity does not consist of runs; leave --runs out"),
    ):
        assert run(tmp_path, name, f"--runs={runs}") == 2
        assert words in capsys.readouterr().err
    for runs in ("", "3-1", "0", "a", "1-"):
        with pytest.raises(SystemExit):
            run(tmp_path, "drivaerml_raw", f"--runs={runs}")
        assert "is no number or range of runs; write them as 1-10,17" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


HUB = "https://huggingface.co/datasets"
SERIES = "https://storage.googleapis.com/dm-meshgraphnets"
PRESAMPLED = [f"drivaerml_{size}" for size in ("10k", "40k", "100k", "200k", "300k", "400k", "500k", "1m")]
# Of all public sets: names, folder below the data root, beginning of every address.
PUBLISHED = (
    (
        ("elasticity", "plasticity", "pipe", "airfoil_steady"),
        "Geo-FNO",
        f"{HUB}/vedantpuri/PDESurrogates/resolve/main/Geo",
    ),
    (("darcy", "navier_stokes"), "FNO", f"{HUB}/vedantpuri/PDESurrogates/resolve/main/FNO.tar.gz"),
    *(
        (
            (name,),
            "DrivAerML",
            f"{HUB}/vedantpuri/PDESurrogates/resolve/main/drivaerml_surface_presampled_{name[10:]}.tar",
        )
        for name in PRESAMPLED
    ),
    (
        ("drivaerml_raw",),
        "DrivAerML/raw",
        f"{HUB}/neashton/drivaerml/resolve/main/run_1/boundary_1.vtp and so on for 484",
    ),
    (("shapenet_car",), "ShapeNet-Car", "http://www.nobuyuki-umetani.com/publication/mlcfd_data.zip"),
    (("lpbf",), "LPBF_FLARE", f"{HUB}/vedantpuri/LPBF_FLARE"),
    (("airfoil_dynamic",), "MeshGraphNets/airfoil_dynamic", f"{SERIES}/airfoil/"),
    (("cylinder_flow",), "MeshGraphNets/cylinder_flow", f"{SERIES}/cylinder_flow/"),
    (
        ("listops", "retrieval", "pathfinder32", "pathfinder128"),
        "lra_release",
        "https://storage.googleapis.com/long-range-arena/lra_release.gz",
    ),
    (("text",), "aclImdb", "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"),
    (("image",), "cifar-10-batches-py", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"),
    (("sudoku",), "sudoku-extreme", f"{HUB}/sapientinc/sudoku-extreme/resolve/main/t"),
    (("maze",), "maze-30x30-hard-1k", f"{HUB}/sapientinc/maze-30x30-hard-1k/resolve/main/t"),
    (
        ("novels",),
        "novels",
        "https://github.com/computationalstylistics/100_english_novels/archive/143e601.tar.gz",
    ),
)


def test_every_public_set_is_listed_with_its_place_and_source(tmp_path, capsys):
    assert run(tmp_path, "--list") == 0
    listed, head = {}, ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("    "):
            listed[head].append(line.strip())
        else:
            head = line
            listed[head] = []
    *sets, by_hand = listed
    assert sets == [f"{', '.join(names)} -> {tmp_path}/data/{folder}" for names, folder, _ in PUBLISHED]
    for head, (_, _, address) in zip(sets, PUBLISHED, strict=True):
        assert listed[head], head
        assert all(line.startswith(address) for line in listed[head]), head
    assert by_hand.startswith("lra_pickles: ")
    assert "a24998667/long-range-arena-processed" in by_hand


def test_surfaces_are_fetched_run_by_run(tmp_path, capsys):
    """In the published layout; what is received is what training on own meshes takes."""
    pv = pytest.importorskip("pyvista")
    mesh = pv.Plane(i_resolution=2, j_resolution=1)
    mesh.cell_data["pMeanTrim"] = np.float32([1, 2])
    mesh.save(tmp_path / "bare.vtp")
    mesh.cell_data["wallShearStressMeanTrim"] = np.ones((2, 3), np.float32)
    mesh.save(tmp_path / "good.vtp")
    bare, good = ((tmp_path / f"{name}.vtp").read_bytes() for name in ("bare", "good"))
    content = {f"/drivaerml/run_{number}/boundary_{number}.vtp": good for number in (1, 2, 3)}
    folder = tmp_path / "data" / "DrivAerML" / "raw"
    with serving(Files(content)) as files:
        mirror = f"--mirror={files.address}"
        assert run(tmp_path, "drivaerml_raw", "--runs=1,2", mirror) == 0
        assert run(tmp_path, "drivaerml_raw", "--runs=1-3", mirror) == 0
        assert run(tmp_path, "drivaerml_raw", "--runs=1-4", mirror) == 2
        assert "HTTP 404" in capsys.readouterr().err
        assert len(files.seen) == 4  # no run twice
        files.content["/drivaerml/run_1/boundary_1.vtp"] = bare
        assert run(tmp_path / "b", "drivaerml_raw", "--runs=1-3", mirror) == 2
        assert "lacks wallShearStressMeanTrim at its cells" in capsys.readouterr().err
        assert len(files.seen) == 5  # the first says that the others are not worth it
    assert sorted(json.loads((folder / "DOWNLOAD.json").read_text())) == sorted(name[1:] for name in content)
    assert run(tmp_path, "--list") == 0
    assert f"drivaerml_raw -> {folder} (there: 3 runs)" in capsys.readouterr().out
    dataset = find_record("custom").load(
        tmp_path, 2, 1, path=str(folder), cell_data="centres", targets="pMeanTrim,wallShearStressMeanTrim"
    )
    assert (dataset.c_out, len(dataset.train), dataset.train.x.shape[1]) == (4, 2, 2)


def test_an_interrupted_repository_is_not_taken_for_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "check", lambda name, data_dir: None)
    for split in ("train", "test"):
        (tmp_path / "mirror" / "LPBF_FLARE" / split).mkdir(parents=True)
        for name in "ab":
            (tmp_path / "mirror" / "LPBF_FLARE" / split / f"{name}.npz").write_bytes(b"a")
    copy, calls = fetch.fetch, []

    def breaking(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return copy(*arguments)

    monkeypatch.setattr(fetch, "fetch", breaking)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "lpbf", f"--mirror={tmp_path / 'mirror'}")
    assert run(tmp_path, "lpbf", f"--mirror={tmp_path / 'mirror'}") == 0
    assert len(list((tmp_path / "data" / "LPBF_FLARE").rglob("*.npz"))) == 4


def test_a_text_is_fetched_and_read(tmp_path, capsys):
    texts = {f"100_english_novels-143e601/corpus/{number:03}.txt": b"Once." for number in range(100)}
    for name, content in (("whole", b"It was."), ("broken", b"\xff\xfe")):
        (tmp_path / name).mkdir()
        archive = tar_of({**texts, "100_english_novels-143e601/corpus/050.txt": content})
        (tmp_path / name / "100_english_novels.tar.gz").write_bytes(archive)
    assert run(tmp_path, "novels", f"--mirror={tmp_path / 'broken'}") == 2
    assert "050.txt is not text in UTF-8" in capsys.readouterr().err
    assert command.main(["novels", f"--data_dir={tmp_path / 'new'}", f"--mirror={tmp_path / 'whole'}"]) == 0
    documents = read_documents(tmp_path / "new" / "novels", "corpus/*.txt")
    assert (len(documents), documents[50].text) == (100, b"It was.")
