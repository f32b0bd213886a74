"""Errors of simple predictors on the data of a run: computed once, said before the training, kept in config.json."""

from data_pipeline.dataset import PDEDataset
from experiments import program, workdir
from experiments.training import hosts
from experiments.training.tasks.errors import headline_of
from experiments.training.tasks.simple import SIMPLE, simple_errors


def simple_predictors(request: program.Request, dataset: PDEDataset, fingerprint: str) -> dict[str, float]:
    """Return `SPLIT/METRIC_PREDICTOR` of the simple predictors; nothing where `eval.simple_predictors` is off.

    Other processes than the main one, which alone reports, get nothing.
    """
    if not request.config.eval.get("simple_predictors", True) or not hosts.is_main():
        return {}
    stored = workdir.read_config_file(request.folder).get("simple_predictors")
    if isinstance(stored, dict) and stored.get("fingerprint") == fingerprint:
        return stored["errors"]
    errors = simple_errors(dataset)
    if not request.other_data:
        with program.writing(request):
            workdir.record(request.folder, "simple_predictors", {"fingerprint": fingerprint, "errors": errors})
    metric = headline_of(dataset)
    found = ", ".join(f"{words} {errors[f'test/{metric}_{name}']:.4e}" for name, words in SIMPLE.items() if errors)
    if found:
        hosts.say(f"to beat on test, {metric}: {found}")
    return errors
