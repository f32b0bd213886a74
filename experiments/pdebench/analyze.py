"""`--mode=analyze`: attention scores and spectra of a trained FLARE over its test sets (`energy`: of its fields).

Into the folder `analysis` of the run go, per test set, `<test>.json` (statistics per block and head), `<test>.npz` (the
eigenvalues of every case), and the figures eigenvals.png, spectra.pdf and scores.png. The numbers are kept: a second
run of the same weights and data only draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from data_pipeline.dataset import PDEDataset
from data_pipeline.numpy_files import open_npz
from experiments import figures
from experiments.errors import UserError
from experiments.pdebench.models import call_inputs
from experiments.training import hosts
from experiments.training.setup import Setup
from experiments.training.state import TrainState
from flare_jax.analysis import BlockAnalysis, ScoreStatistics, dataset_analysis, effective_rank, mixing_spectrum
from flare_jax.analysis.figures import eigenvalue_figure, score_figure, spectra_figure
from flare_jax.models.registry import MODELS
from flare_jax.params import apply_fn, digest
from runtime.files import replacing
from runtime.json_files import read_object, write_json

Batch = tuple[np.ndarray, np.ndarray | None]


def read_cases(texts: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of test cases given as text; raises UserError for anything else."""
    if not all(text.isdecimal() for text in texts):
        raise UserError(
            f"--eigenvectors={','.join(texts)} must be numbers of test cases with commas between them, such as 0,3"
        )
    return tuple(map(int, texts))


def why_no_scores(section: ConfigDict) -> str:
    """Return why models of config section `model` give no scores or statistics of them, "" where they do."""
    analyzable = [name for name in MODELS if {"return_scores", "return_statistics"} & call_inputs(name)]
    if section.type not in analyzable:
        return (
            f"--mode=analyze needs attention scores, which model type {section.type!r} has not; it works for runs of "
            f"{', '.join(analyzable)}, and for all on structured grids"
        )
    if section.get("num_latent_blocks", 0):
        return (
            f"--mode=analyze needs one matrix of scores per block, but this run has model.num_latent_blocks="
            f"{section.num_latent_blocks}; analyse a run with 0, or one on a structured grid"
        )
    return ""


def check_analyzable(section: ConfigDict, cases: Sequence[int] = (), grid: bool = False) -> None:
    """Raise UserError unless there is something to analyse.

    That is scores, statistics of scores, for which no `cases` can be kept, or data on a structured `grid`.
    """
    reason = why_no_scores(section)
    if reason and not grid:
        raise UserError(reason)
    if cases and (reason or "return_scores" not in call_inputs(section.type)):
        raise UserError(
            f"--eigenvectors={','.join(map(str, cases))} needs attention scores, which model type {section.type!r} "
            "has not; leave it out"
        )


def check_cases(cases: Sequence[int], count: int) -> None:
    """Raise UserError unless `cases` are among so many samples of the test."""
    for case in cases:
        if not 0 <= case < count:
            raise UserError(f"--eigenvectors={case} is not among the {count} test cases; count from 0")


def analyze(
    graphdef: nnx.GraphDef,
    setup: Setup,
    state: TrainState,
    config: ConfigDict,
    dataset: PDEDataset,
    folder: Path,
    cases: Sequence[int] = (),
) -> dict[str, Any]:
    """Analyse every test set with the weights of the headline metric; return the content of the JSON files by test.

    Of each of `cases` of `test` the right eigenvectors [blocks, H, N, M] and the scores [blocks, H, M, N] are kept.
    """
    output = folder / "analysis"
    output.mkdir(exist_ok=True)
    params = setup.weights(state)[config.eval.weights]
    key = f"{digest(params)}-{dataset.fingerprint()}"
    contents = {}
    for name, arrays in setup.task.tests.items():
        content, blocks = _load(output, name, key) or _compute(graphdef, setup, params, arrays, config, dataset)
        content = {"key": key, "weights": config.eval.weights, "step": int(state.step)} | content
        if hosts.is_main():
            _write(output, name, content, blocks)
        hosts.say(f"{name}: {_describe(content)}")
        contents[name] = content
    for case in cases:
        _write_case(graphdef, params, setup.task.tests["test"], case, output)
    return contents


def _compute(
    graphdef: nnx.GraphDef,
    setup: Setup,
    params: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    config: ConfigDict,
    dataset: PDEDataset,
) -> tuple[dict[str, Any], tuple[BlockAnalysis, ...]]:
    blocks = dataset_analysis(graphdef, params, batches_of(arrays, config.eval.batch_size))
    error = _normalised_error(setup, params, arrays, config.eval.batch_size, dataset)
    return {"mse_normalised": error, "blocks": [_summarize(block) for block in blocks]}, blocks


def batches_of(arrays: Mapping[str, np.ndarray], size: int) -> Iterator[Batch]:
    """Yield points and masks of so many samples after the other."""
    for start in range(0, len(arrays["x"]), size):
        mask = np.asarray(arrays["mask"][start : start + size]) if "mask" in arrays else None
        yield np.asarray(arrays["x"][start : start + size]), mask


def _normalised_error(
    setup: Setup, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray], size: int, dataset: PDEDataset
) -> float:
    """Return the mean squared error in units of the targets' standard deviations, over all real points."""

    @jax.jit
    def squares(params: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        error = (setup.task.predict(params, batch, None) - batch["y"]) / dataset.y_normalizer.std
        real = jnp.broadcast_to(batch["mask"][..., None] if "mask" in batch else True, error.shape)
        return jnp.sum(jnp.where(real, jnp.square(error), 0)), jnp.sum(real)

    chunks = range(0, len(arrays["x"]), size)
    sums = [squares(params, {name: np.asarray(value[i : i + size]) for name, value in arrays.items()}) for i in chunks]
    total, count = (sum(float(value) for value in values) for values in zip(*sums, strict=True))
    return total / count


def _summarize(block: BlockAnalysis) -> dict[str, Any]:
    """Return means over the cases, each a list over heads."""
    ranks = effective_rank(block.eigenvalues)
    vanishing = block.eigenvalues < np.finfo(np.float32).eps * block.eigenvalues[..., :1]
    return {
        "effective_rank": ranks.mean(0).tolist(),
        "effective_rank_std": ranks.std(0).tolist(),
        "vanishing_fraction": vanishing.mean((0, 2)).tolist(),
        "eigenvalues": block.eigenvalues.mean(0).tolist(),
        "scores": {name: values.mean(0).tolist() for name, values in block.statistics._asdict().items()},
    }


def _describe(content: Mapping[str, Any]) -> str:
    ranks = [np.mean(block["effective_rank"]) for block in content["blocks"]]
    latents = len(content["blocks"][0]["eigenvalues"][0])
    listed = ", ".join(f"{rank:.1f}" for rank in ranks)
    return f"effective rank per block {listed} of {latents}; MSE in normalised units {content['mse_normalised']:.3e}"


def _write(output: Path, name: str, content: Mapping[str, Any], blocks: tuple[BlockAnalysis, ...]) -> None:
    arrays = {}
    for number, block in enumerate(blocks):
        arrays[f"eigenvalues_{number}"] = block.eigenvalues
        arrays |= {f"{field}_{number}": values for field, values in block.statistics._asdict().items()}
    with replacing(output / f"{name}.npz") as temporary:
        np.savez(temporary, **arrays)
    write_json(output / f"{name}.json", content)  # last: its key says that the arrays are there
    prefix = "" if name == "test" else f"{name}_"
    spectra = [block.eigenvalues for block in blocks]
    figures.save(eigenvalue_figure(spectra), output / f"{prefix}eigenvals.png")
    figures.save(spectra_figure(spectra), output / f"{prefix}spectra.pdf")
    figures.save(score_figure(blocks), output / f"{prefix}scores.png")


def _load(output: Path, name: str, key: str) -> tuple[dict[str, Any], tuple[BlockAnalysis, ...]] | None:
    """Return the results of an earlier run of the same weights and data, None where there are none."""
    try:
        content = read_object(output / f"{name}.json")
        if content["key"] != key:
            return None
        _describe(content)  # fails for numbers that are not there
        with open_npz(output / f"{name}.npz") as archive:
            arrays = {stored: archive.read(stored) for stored in archive.files}
            blocks = tuple(
                BlockAnalysis(
                    arrays[f"eigenvalues_{number}"],
                    ScoreStatistics(*(arrays[f"{field}_{number}"] for field in ScoreStatistics._fields)),
                )
                for number in range(len(content["blocks"]))
            )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content, blocks


def _write_case(
    graphdef: nnx.GraphDef, params: Mapping[str, Any], arrays: Mapping[str, np.ndarray], case: int, output: Path
) -> None:
    (x, mask) = next(batches_of({name: value[case : case + 1] for name, value in arrays.items()}, 1))
    _, scores = jax.jit(lambda p, x: apply_fn(graphdef)(p, x, mask, return_scores=True))(params, x)
    vectors = [mixing_spectrum(block, mask, eigenvectors=True).eigenvectors[0] for block in scores]
    if hosts.is_main():
        with replacing(output / f"eigenvectors_{case}.npz") as temporary:
            np.savez(temporary, eigenvectors=np.stack(jax.device_get(vectors)))
        with replacing(output / f"scores_{case}.npz") as temporary:
            np.savez(temporary, scores=np.stack([block[0] for block in jax.device_get(scores)]))
