"""How far the tests of a run are from what it was trained on: a score per sample for eval.json, and a line."""

from collections.abc import Mapping
from pathlib import Path

from data_pipeline.dataset import PDEDataset
from experiments import workdir
from experiments.predict.signature import Signature
from experiments.predict.training_range import Judgement, TrainingRange, describe_judgements, given_inputs

# Of tests that are drawn like the training samples a few are a little outside, which is no news.
_USUAL = 0.1


def judge_tests(folder: Path, dataset: PDEDataset) -> dict[str, dict[str, Judgement]]:
    """Return for every test how its samples, by name, compare with the training of the run in `folder`.

    Nothing where the run does not know its training's range. The data have to be in the run's normalisation.
    """
    prediction = workdir.read_config_file(folder).get("prediction")
    if not prediction or "training_range" not in prediction:
        return {}
    codec, trained_on = Signature.from_json(prediction).codec, TrainingRange.from_json(prediction["training_range"])
    return {
        name: {
            dataset.case_name(name, case): trained_on.judge(given_inputs(dataset, split, case), codec)
            for case in range(len(split))
        }
        for name, split in dataset.tests.items()
    }


def scores_of(judgements: Mapping[str, Judgement]) -> dict[str, float]:
    """Return the score of every sample, above 1 outside of the training."""
    return {name: round(one.score, 4) for name, one in judgements.items()}


def range_lines(judgements: Mapping[str, Judgement], other_data: bool) -> list[str]:
    """Return a line of warning where samples of other data, or more than a few of the run's own, are outside."""
    outside = sum(bool(one.reasons) for one in judgements.values())
    told = outside > _USUAL * len(judgements) or other_data
    return [describe_judgements(judgements)] if outside and told else []
