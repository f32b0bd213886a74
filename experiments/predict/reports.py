"""What predictions say beside their fields: how far samples are from the training's, and integrals."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.integral_report import Value, summarize_values, value_lines, write_values
from experiments.predict.training_range import Judgement, describe_judgements
from runtime.json_files import write_json


def report_range(target: Path, judgements: Mapping[str, Judgement]) -> None:
    """Write how far every sample is from the training's, and warn in one line of those that are outside."""
    if not judgements:
        return
    write_json(beside(target, "range"), {name: vars(one) for name, one in judgements.items()})
    warning = describe_judgements(judgements)
    if warning:
        print(warning)


def report_integrals(target: Path, values: Sequence[Value]) -> None:
    """Write the integrals of all samples; say their errors where the truth is known, or those of a single sample."""
    if not values:
        return
    path = beside(target, "integrals").with_suffix(".csv")
    write_values(path, values)
    lines = value_lines("mean over the samples,", summarize_values(values))
    if not lines and len({(one.case, one.time) for one in values}) == 1:
        lines = [f"  {one.integral} {one.component}".rstrip() + f": {one.prediction:.6g}" for one in values]
    print("\n".join([f"integrals in {path}", *lines]))


def beside(target: Path, what: str) -> Path:
    """Return the JSON file beside the output, or in its folder."""
    return target.with_suffix(f".{what}.json") if target.suffix else target / f"{what}.json"
