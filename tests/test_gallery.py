"""The gallery is true: the commands of every case run as the page has them, with fewer samples and a tiny network."""

import contextlib
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from data_pipeline import inspect
from tests.program_server import run_program

pytest.importorskip("pyvista")

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/gallery.md").read_text().replace("\\\n", " ")
CASES = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])
# The last case begins with the run of the first one.
STARTS_FROM = {"Fine-tuning on eight samples": "A steady flow in the plane"}
SAMPLES = {"plates": 5, "airfoils": 12}
TINY = (
    "--config.model.channel_dim=8", "--config.model.num_blocks=1", "--config.model.num_heads=2",
    "--config.model.num_latents=4", "--config.model.num_layers_k_proj=0", "--config.model.num_layers_v_proj=0",
    "--config.model.num_layers_ffn=0", "--config.model.num_layers_in_out_proj=0", "--config.train.epochs=1",
    "--config.figures=False", "--config.eval.simple_predictors=False", "--config.data.buckets=1",
)  # fmt: skip


def commands(case: str) -> list[list[str]]:
    """Return the words of the commands of a case."""
    blocks = re.findall(r"```bash\n(.*?)```", CASES[case], re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


class Runner:
    """Runs cases in a folder, each once; the commands see `data/gallery` and `out/gallery` there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, set()
        (folder / "out/gallery").mkdir(parents=True)

    def run(self, case: str) -> None:
        if case in self.done:
            return
        if case in STARTS_FROM:
            self.run(STARTS_FROM[case])
        proposed = {}
        for words in commands(case):
            placed = [re.sub(r"\b(data|out)/gallery", rf"{self.folder}/\1/gallery", word) for word in words]
            if words[1] == "-m" and words[2] == "data_pipeline.inspect":
                proposed = self._inspect(placed[3:])
            elif words[1] == "-m":
                self._program(placed[2], placed[3:], proposed)
            else:
                self._write(placed[1], placed[2:])
        self.done.add(case)

    def _write(self, program: str, arguments: list[str]) -> None:
        name = Path(next(word for word in arguments if word.startswith("--out="))).name
        arguments = [word for word in arguments if not word.startswith("--num=")] + [f"--num={SAMPLES.get(name, 8)}"]
        before = sys.argv
        sys.argv = [program, *arguments]
        try:
            runpy.run_path(str(ROOT / program), run_name="__main__")
        finally:
            sys.argv = before

    def _inspect(self, arguments: list[str]) -> dict[str, str]:
        """Return the options that are proposed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert inspect.main(arguments) == 0
        return dict(re.findall(r"--config\.data\.(\w+)=(\S+)", printed.getvalue()))

    def _program(self, module: str, arguments: list[str], proposed: dict[str, str]) -> None:
        given = dict(word[2:].partition("=")[::2] for word in arguments)
        if module == "experiments.pdebench" and "config" in given:
            # What is trained is what the look at the files proposed.
            options = {name.removeprefix("config.data."): value for name, value in given.items()}
            assert {name: options.get(name) for name in proposed} == proposed
            arguments = [word for word in arguments if not word.startswith("--config.train.epochs")] + list(TINY)
        result = run_program(module, arguments)
        assert result.returncode == 0, result.stderr
        for name in ("workdir", "output", "figure"):
            assert Path(given.get(name, self.folder)).exists()


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("gallery"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_commands_run(runner, case):
    assert len(commands(case)) >= 3
    runner.run(case)
    for name in re.findall(r"`out/gallery/([\w./]+)`", CASES[case]):
        assert (runner.folder / "out/gallery" / name).exists()


def test_pictures_are_small():
    pictures = [ROOT / "docs" / name for name in re.findall(r"!\[.*?\]\((.*?)\)", PAGE)]
    assert len(pictures) == len(CASES)
    assert max(picture.stat().st_size for picture in pictures) < 150_000
