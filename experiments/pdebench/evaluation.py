"""What a run on fields reports of a seed: errors by sample, frame and field, integrals, figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.dataset import PDEDataset
from experiments import figures, frame_figures, program, report
from experiments.additive.report import write_report
from experiments.integral_report import Value, summarize_values, value_lines, values_of_test, write_values
from experiments.pdebench import drawing, marching
from experiments.pdebench.ranges_of_tests import judge_tests, range_lines, scores_of
from experiments.seeds import Trained
from experiments.training import hosts
from experiments.training.evaluate import PerCase
from experiments.training.packing import Params
from experiments.training.setup import Setup
from experiments.training.tasks.baselines import baseline_errors
from experiments.training.tasks.errors import with_units


def report_seed(
    dataset: PDEDataset,
    simple: Mapping[str, float],
    request: program.Request,
    setup: Setup,
    trained: Trained,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Evaluate a seed and write its report; return what that says, `facts` among it.

    `simple` are the errors of simple predictors, by the names under which they are reported.
    """
    config, task, state, folder = request.config, setup.task, trained.state, trained.folder
    results = with_units(dataset, report.evaluate_all(setup, state))
    chosen = setup.weights(state)[config.eval.weights]
    baselines = {
        f"{name}/{task.headline}_{baseline}": error
        for name, split in {**dataset.tests, "train": dataset.train}.items()
        for baseline, error in baseline_errors(dataset, split, config.task.get("first", 1)).items()
    }
    # The steps of parts that grow are few, so that those of the training set are affordable too.
    framed = [*dataset.tests, *(["train"] if dataset.kind == "layer_series" else [])] if task.frame_metrics else []
    frames = {name: report.evaluate_frames(setup, chosen, name) for name in framed}
    summary = {
        **report.summarize(results, config.eval.weights, {**baselines, **simple}),
        **report.evaluate_others(setup, chosen),
        **{key: values for name, found in frames.items() for key, values in report.means_by_frame(name, found).items()},
        **({"fields": list(dataset.channels.targets)} if dataset.channels else {}),
        **facts,
    }
    values = _integrals(setup, chosen, dataset)
    judgements = judge_tests(request.folder, dataset) if hosts.is_main() else {}
    summary |= {f"{name}/integrals": summarize_values(found) for name, found in values.items()}
    summary |= {f"{name}/range": scores_of(found) for name, found in judgements.items()}
    lines = [line for name, found in values.items() for line in value_lines(name, summarize_values(found))]
    lines += [line for found in judgements.values() for line in range_lines(found, bool(request.other_data))]
    hosts.say("\n".join([*report.result_lines(summary, task.headline), *lines]))
    with program.writing(request):
        place = marching.output_folder(request, folder)
        details = request.details(place)
        if hosts.is_main():
            report.write_eval(place, trained.file, summary)
            report.write_per_case(details / "per_case.csv", results, dataset.sample_names)
            _write_frames(frames, dataset, details, config.figures)
            for name, found in values.items():
                write_values(details / f"integrals_{name}.csv", found)
        if config.figures:
            drawing.draw_learning_curve(dataset, task, summary, folder, details / "figures")
            for name in dataset.tests:
                per_case = results[name][config.eval.weights]
                drawing.draw_cases(setup, chosen, dataset, name, per_case, details / "figures")
        if dataset.mesh_of is not None:
            per_split = {name: sets[config.eval.weights] for name, sets in results.items()}
            write_report(setup, chosen, dataset, per_split, frames, details, config.name, config.figures)
    return summary


def _integrals(setup: Setup, params: Params, dataset: PDEDataset) -> dict[str, list[Value]]:
    """Return the integrals of all tests, nothing where the data name none."""
    if dataset.integrals is None:
        return {}
    found = {}
    for name in dataset.tests:
        arrays = setup.mesh.place_dataset(setup.task.tests[name])
        found[name] = values_of_test(dataset, name, lambda case: setup.predict(params, arrays, case))
    return found


def _write_frames(frames: Mapping[str, PerCase], dataset: PDEDataset, folder: Path, draw: bool) -> None:
    """Write the errors of every frame of the tests, and draw them."""
    for name, per_frame in frames.items():
        times = dataset.times[-next(iter(per_frame.values())).shape[1] :]
        report.write_frames(folder / f"frames_{name}.csv", per_frame, times)
        if draw and dataset.kind != "layer_series":
            figure = frame_figures.error_figure(per_frame, times, f"{dataset.name}, {name}: mean ± standard deviation")
            figures.save(figure, folder / "figures" / f"{name}_by_frame.png")
