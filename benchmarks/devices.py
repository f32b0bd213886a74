"""How does a training step scale over the GPUs of one host? Run on several GPUs:

    python -m benchmarks.devices [--devices=1,2,4,8] [--models=flare,flarepp] [--points=1048576]
        [--scalings=strong,weak] [--sharded=points,batch] [--out=out/devices] [--seconds=285]
    python -m benchmarks.devices --config=configs/flare_drivaerml_1m.py --config.model.num_latents=512

Times the training step of a config (`configs/flare_drivaerml_1m.py` and `configs/flarepp_drivaerml_40k.py`, or the one
that --config names) on random data of --points points. Strong scaling shares these among the devices, in weak scaling
each of them has so many; "points" shares the points of one sample, "batch" the samples of a batch. Every step is
measured in a process of its own, so that the peak memory is its own, several at a time where they need different GPUs.
The bytes that are summed over the devices are counted in the compiled program and stand beside the formula of
`benchmarks.devices_cost`; "hidden" are sums beside which the compiler has scheduled something to compute. Loss and
gradient norm of the first step are compared with those of the same batch on one device.

The folder --out gets devices.csv, complete after every measurement, devices.md, the table with what the formula
predicts for up to 1024 devices from a measurement of the link, and devices.png.
"""

import csv
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from benchmarks.command import check_output
from benchmarks.devices_cases import COLUMNS, HEADER, SCALINGS, SHARDED, Work, cases_of, cells, rows_of, works_of
from benchmarks.devices_cost import Link, predicted
from benchmarks.devices_figure import devices_figure
from benchmarks.options import check_device, define_any_device, define_counts
from benchmarks.timing import markdown_table, print_table
from benchmarks.train_step import data_shape
from benchmarks.worker import Worker
from data_pipeline.registry import find_record
from experiments import cli, program
from experiments.errors import UserError
from experiments.options import check_options

FLAGS = flags.FLAGS
MODELS = {"flare": "configs/flare_drivaerml_1m.py", "flarepp": "configs/flarepp_drivaerml_40k.py"}
POINTS = 2**20
MODULE = "benchmarks.devices_step"
_POWERS = (1, 2, 4, 8)


def main() -> None:
    """Measure all steps and write table and figure."""
    models, changes = _models()
    _check_names("scalings", SCALINGS)
    _check_names("sharded", SHARDED)
    out = Path(FLAGS.out)
    check_output(str(out / "devices.csv"))
    deadline = time.monotonic() + FLAGS.seconds
    there = _devices_there(list(models.values()), changes, deadline)
    cases = cases_of(list(models), _counts(there["count"]), FLAGS.points, FLAGS.scalings, FLAGS.sharded)
    check_device(there["platform"])
    answers: dict[Work, dict[str, Any]] = {}

    def request(work: Work) -> dict[str, Any]:
        return {**work._asdict(), "config": models[work.model], "changes": changes, "steps": FLAGS.steps,
                "repeats": FLAGS.repeats}  # fmt: skip

    gpus = _gpus(max(case.work.devices for case in cases)) if there["platform"] == "cuda" else []
    for work, answer in _measured(works_of(cases), request, gpus, deadline):
        answers[work] = answer
        print(f"{work.name}: {answer.get('error') or format(answer['step_ms'], '.2f') + ' ms/step'}", flush=True)
        rows = list(rows_of(cases, answers))
        _write_csv(out / "devices.csv", rows, there["device"])
    table = [cells(row) for row in rows]
    text = f"{there['device']}\n\n{markdown_table(HEADER, table)}"
    (out / "devices.md").write_text(text + _predictions(answers, deadline))
    devices_figure(rows, there["device"]).savefig(out / "devices.png", dpi=150)
    print(f"\n{there['device']}: {out}/devices.csv, devices.md, devices.png")
    print_table(HEADER, table)


def _models() -> tuple[dict[str, str], dict[str, Any]]:
    """Return the config file of every model, and the changes of the options of that of --config."""
    if FLAGS.config is None:
        _check_names("models", tuple(MODELS))
        return {name: MODELS[name] for name in FLAGS.models}, {}
    if FLAGS["models"].present:
        raise UserError(f"--models={','.join(FLAGS.models)} does not go with --config; give one of them")
    config = program.given_config(MODELS["flare"])
    check_options(config, cli.overrides())
    data_shape(config.data.name)
    if find_record(config.data.name).grid is not None:
        raise UserError(f"data set {config.data.name} is a grid, which has no other number of points; time a config of "
                        "one that is not")  # fmt: skip
    return {config.name: config_flags.get_config_filename(FLAGS["config"])}, cli.overrides()


def _check_names(flag: str, known: Sequence[str]) -> None:
    values = FLAGS[flag].value
    unknown = [name for name in values or [""] if name not in known]
    if unknown:
        raise UserError(f"--{flag} has {unknown[0]!r}; give one or more of {', '.join(known)}")


def _devices_there(configs: Sequence[str], changes: Mapping[str, Any], deadline: float) -> dict[str, Any]:
    """Return number and platform of the devices; asked in a process that ends, for it takes their memory.

    Raises UserError where there are none, and for options that the models cannot have.
    """
    with Worker(MODULE) as worker:
        (answer,) = worker.answers({"configs": configs, "changes": changes}, ["devices"], deadline)
    if "error" in answer:
        remedy = f"check its installation, or raise --seconds={FLAGS.seconds:g}"
        raise UserError(f"JAX finds no devices here ({answer['error']}); {remedy}")
    if answer["refused"]:
        raise UserError(answer["refused"])
    return answer


def _counts(there: int) -> list[int]:
    """Return the wanted numbers of devices; raises UserError for those that are not there, or share unequally."""
    given = FLAGS.devices or [str(count) for count in _POWERS if count <= there]
    for text in given:
        if not text.isdecimal() or not 1 <= int(text) <= there:
            raise UserError(f"--devices has {text!r}; give numbers from 1 to {there}, the devices that are here")
    counts = [int(text) for text in given]
    uneven = [count for count in (*counts, max(counts)) if FLAGS.points % count or max(counts) % count]
    if uneven:
        raise UserError(
            f"--points={FLAGS.points} or a batch of {max(counts)} does not split over {uneven[0]} devices; "
            "give a multiple, and devices that divide their largest number"
        )
    return counts


def _gpus(count: int) -> list[str]:
    """Return the names of the GPUs to be used, as CUDA counts them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else [str(number) for number in range(count)])[:count]


def _measured(
    works: Sequence[Work], request: Callable[[Work], dict[str, Any]], gpus: Sequence[str], deadline: float
) -> Iterator[tuple[Work, dict[str, Any]]]:
    """Yield every step with its figures, those that need different GPUs measured at the same time.

    Without `gpus` one comes after the other, for all see the same devices.
    """

    def measure(work: Work, own: Sequence[str]) -> dict[str, Any]:
        environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
        if own:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        with Worker(MODULE, environment) as worker:
            (answer,) = worker.answers(request(work), [work.name], deadline)
        return answer

    free, waiting, finished = list(gpus), list(works), queue.SimpleQueue()
    running = 0
    with ThreadPoolExecutor(max(1, len(gpus))) as pool:
        while waiting or running:
            for work in list(waiting):
                fits = work.devices <= len(free) if gpus else not running
                if fits:
                    own, free = free[: work.devices], free[work.devices :]
                    waiting.remove(work)
                    running += 1
                    pool.submit(measure, work, own).add_done_callback(
                        lambda future, work=work, own=own: finished.put((work, own, future))
                    )
            work, own, future = finished.get()
            running -= 1
            free += own
            yield work, future.result()


def _predictions(answers: Mapping[Work, dict[str, Any]], deadline: float) -> str:
    """Return what the formula gives for up to 1024 devices, from the link and the step of one device measured here."""
    devices = max(work.devices for work in answers)
    alone = {work: answers[work] for work in answers if work == Work(work.model, 1, FLAGS.points)}
    known = {work: answer for work, answer in alone.items() if answer.get("formula_sums")}
    if devices == 1 or not known:
        return ""
    with Worker(MODULE) as worker:
        (answer,) = worker.answers({"devices": devices}, ["link"], deadline)
    if "error" in answer:
        return f"\nThe link was not measured: {answer['error']}\n"
    link = Link(answer["bandwidth"], answer["latency_s"])
    text = (
        f"\nA sum over {devices} devices: each sends {link.bandwidth / 1e9:.0f} GB/s in {answer['mebibytes']:g} MiB, "
        f"and {1e6 * link.latency:.1f} us times log2 of their number for 4 bytes. With the same link between all "
        f"devices, and with nothing hidden, {FLAGS.points} points on each (weak) or in all (strong):\n\n"
    )
    rows = [
        (work.model, str(count), f"{weak:.3f}", f"{strong:.3f}")
        for work, answer in known.items()
        for count, weak, strong in predicted(answer["formula_sums"], 1e-3 * answer["step_ms"], link)
    ]
    return text + markdown_table(("model", "devices", "weak efficiency", "strong efficiency"), rows)


def _write_csv(path: Path, rows: Sequence[dict[str, Any]], device: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("device", *COLUMNS))
        writer.writeheader()
        writer.writerows({"device": device, **row} for row in rows)


if __name__ == "__main__":
    cli.define_flags()
    flags.DEFINE_list("devices", None, "Numbers of devices; by default 1, 2, 4 and 8, as far as they are here.")
    flags.DEFINE_list("models", list(MODELS), "Models, by their configs of DrivAerML.")
    flags.DEFINE_list("scalings", list(SCALINGS), "How the work grows with the devices.")
    flags.DEFINE_list("sharded", list(SHARDED), "What the devices share.")
    define_counts(
        steps=(4, "Optimizer steps per measurement."),
        repeats=(3, "Measurements; the median is reported."),
    )
    flags.DEFINE_integer("points", POINTS, "Points in all, or of every device.", lower_bound=1, upper_bound=2**31)
    flags.DEFINE_string("out", "out/devices", "Folder of devices.csv, devices.md and devices.png.")
    define_any_device()
    flags.DEFINE_float("seconds", 285.0, "Time limit of the whole run.", lower_bound=1.0)
    cli.run(main)
