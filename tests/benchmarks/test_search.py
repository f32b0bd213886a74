import dataclasses
import functools
import json
import math

import jax
import numpy as np
import pytest

from benchmarks import programs, search_jax, search_residual_mlp
from benchmarks.cases import QUICK, SHAPES, MlpShape
from benchmarks.programs import Program
from benchmarks.search import DEFAULTS, Report, parse, run
from benchmarks.search_jax import SPACES, handle
from benchmarks.search_kernel import Search, SearchCase, describe
from benchmarks.search_launches import with_gradients
from benchmarks.search_limits import SHARED_BYTES, fits
from kernels._tiling import Blocks
from kernels.flare_mixer.shapes import MixerShape
from tests.kernels.operations import OPERATIONS


def make_case(op="flare_mixer", name="million_m128", dtype="bfloat16"):
    return SearchCase(op, name, tuple(vars(SHAPES[op][name]).values()), dtype, "pallas")


def table_of(case):
    return case.space.table(case.shape, case.dtype, case.implementation)


class Device:
    """A device on which the time of a launch is given by a function of its kernel's blocks."""

    def __init__(self, kernel, seconds, wrong=()):
        self.kernel, self.seconds, self.wrong = kernel, seconds, wrong
        self.asked = []

    def __call__(self, task, launches):
        self.asked += [(task, launch) for launch in launches]
        if task == "check":
            return [{"rms": math.nan if getattr(x, self.kernel) in self.wrong else 1e-7} for x in launches]
        return [self.answer(getattr(launch, self.kernel)) for launch in launches]

    def answer(self, blocks):
        seconds = self.seconds(blocks)
        return {"error": "too much shared memory"} if seconds is None else {"seconds": seconds}


def search(device, case=None, deadline=math.inf, group=4):
    case = case or make_case()
    records = []
    found = Search(case, device.kernel, table_of(case), device, records.append)
    return found, found.run(deadline, group), records


@pytest.mark.parametrize("op", ["flare_mixer", "gather", "residual_mlp"])
def test_launches_come_back_from_another_process(op):
    rows = [row for row in OPERATIONS[op].launches if row.implementation == "pallas"]
    assert rows
    for row in rows:
        assert SPACES[op].parse_blocks(json.loads(json.dumps(dataclasses.asdict(row.blocks)))) == row.blocks


def test_the_fastest_launch_wins():
    device = Device("gather", lambda b: 1.0 + abs(b.points - 128) + abs(b.warps - 8) + abs(b.programs - 2112) / 1e4)
    found, best, records = search(device)
    assert (best.gather.points, best.gather.warps, best.gather.programs) == (128, 8, 2112)
    assert dataclasses.replace(best, gather=found.start.gather) == found.start
    times = [trial["seconds"] for trial in records[-1]["tried"]]
    assert times == sorted(times)
    assert records[-1]["tried"][0]["launch"] == describe(best, "gather")


def test_launches_that_fail_are_kept_with_their_reason():
    device = Device("gather", lambda b: None if b.points == 128 else float(b.points))
    _, best, records = search(device)
    assert best.gather.points == 16
    failed = [trial for trial in records[-1]["tried"] if trial["seconds"] is None]
    assert failed
    assert all(trial["error"] == "too much shared memory" for trial in failed)


def test_no_launch_is_timed_twice_and_the_table_is_first():
    device = Device("operand_gradients", lambda b: float(b.points * b.latents))
    found, *_ = search(device)
    launches = [launch for _, launch in device.asked]
    assert launches[0] == found.start
    assert len(launches) == len(set(launches))


def test_without_time_only_the_first_group_is_tried():
    device = Device("gather", lambda b: 1.0)
    search(device, deadline=-math.inf, group=3)
    assert len(device.asked) == 3


def test_where_nothing_runs_the_table_stays():
    found, best, _ = search(Device("gather", lambda b: None))
    assert best == found.start


def test_a_wrong_launch_does_not_win(capsys):
    plain = Device("gather", lambda b: float(b.points + b.programs / 1e6))
    _, fastest, _ = search(plain)
    device = Device("gather", plain.seconds, wrong=(fastest.gather,))
    found, _, _ = search(device)
    correct = found.fastest_correct(found.start)
    assert correct.gather != fastest.gather
    assert correct.gather.points == fastest.gather.points
    assert "not confirmed: nan" in capsys.readouterr().out


@pytest.mark.parametrize(("op", "name", "dtype"), DEFAULTS)
def test_candidates_are_near_the_table_first_and_differ_in_one_kernel(op, name, dtype):
    case = make_case(op, name, dtype)
    start = table_of(case)
    for kernel in case.space.KERNELS:
        tiles = list(case.space.tile_candidates(case.shape, dtype, kernel, start))
        assert tiles[0] == start
        assert len(set(tiles)) > 6
        launches = list(case.space.launch_candidates(case.shape, dtype, kernel, tiles[:2]))
        assert launches
        for launch in (*tiles, *launches):
            assert case.space.with_kernel(start, kernel, launch) == launch
            assert case.space.parse_blocks(json.loads(json.dumps(dataclasses.asdict(launch)))) == launch


def test_launches_for_copies_run_side_by_side():
    """The whole op under vmap, with rows of the table for the rows of all copies."""
    shape = MlpShape("branches", 37, 16, copies=3)
    start = search_residual_mlp.table(shape, "float32", "pallas")
    many = search_residual_mlp.table(dataclasses.replace(shape, rows=1944, channels=64, copies=8), "float32", "pallas")
    assert many == search_residual_mlp.table(MlpShape("branches", 8 * 1944, 64), "float32", "pallas")
    assert many != search_residual_mlp.table(MlpShape("branches", 1944, 64), "float32", "pallas")
    bench = search_residual_mlp.Bench(shape, "float32", "pallas")
    *_, last = search_residual_mlp.tile_candidates(shape, "float32", "backward", start)
    expected, *found = [
        function(*arguments)
        for function, arguments in (
            (functools.partial(with_gradients, bench.call("reference")), bench.program("backward", start)[1]),
            *(bench.program("backward", blocks) for blocks in (start, last)),
        )
    ]
    assert jax.tree.leaves(expected)[-1].shape[0] == 3
    for actual in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3), actual, expected)


def test_limits():
    assert fits(numbers=128 * 200, warps=4, shared_bytes=SHARED_BYTES)
    assert not fits(numbers=128 * 256, warps=4, shared_bytes=0)
    assert not fits(numbers=1, warps=4, shared_bytes=SHARED_BYTES + 1)


class Inline:
    """A worker without a process."""

    def answers(self, request, names, deadline):
        yield from handle({**request, "names": names})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_search_runs_from_end_to_end(tmp_path, monkeypatch):
    """One candidate beside the table's: both timed, one checked, both compared."""
    case = make_case("causal_linear_attention", QUICK, "float32")
    start, space, kernel = table_of(case), case.space, "sums"
    monkeypatch.setattr(search_jax, "BUDGET_SECONDS", 1e-4)
    monkeypatch.setattr(search_jax, "WHOLE_BUDGET_SECONDS", 1e-4)
    other = next(x for x in space.tile_candidates(case.shape, "float32", kernel, start) if x != start)
    monkeypatch.setattr(space, "tile_candidates", lambda *_: [other])
    monkeypatch.setattr(space, "launch_candidates", lambda *_: [])
    monkeypatch.setattr("benchmarks.search.Worker", lambda *_: Inline())
    run([case], (kernel,), Report(str(tmp_path)), seconds=60.0, group=2)
    (entry,) = json.loads((tmp_path / "search.json").read_text())["cases"]
    assert list(entry["kernels"]) == [kernel]
    assert entry["found"] == repr(other)
    assert set(entry["whole"]) == {"table", "found"}
    for answer in entry["whole"].values():
        assert answer["error"] is None
        assert answer["rms"] < 1e-5
        assert answer["forward"] > 0
        assert answer["both"] > 0


@pytest.mark.parametrize(
    ("op", "kernel"),
    [
        (op, kernel)
        for op in ("flare_mixer", "triple_attention", "gated_linear_attention", "causal_flare")
        for kernel in SPACES[op].KERNELS
    ],
)
def test_every_kernel_is_timed_by_itself(op, kernel):
    case = make_case(op, QUICK, "float32")
    request = {**case._asdict(), "kernel": kernel, "task": "time", "best": None, "names": ["0"]}
    (answer,) = handle({**request, "candidates": {"0": dataclasses.asdict(table_of(case))}})
    assert answer["name"] == "0"
    assert 0 < answer["seconds"] < 60


def test_other_tiles_of_the_operand_gradients_give_a_thread_as_many_pairs():
    """Larger ones spill where they share a pass as the table's do, and take the fewest instructions by themselves."""
    case = make_case(name="million_m2048", dtype="float32")
    start = dataclasses.replace(
        table_of(case), operand_gradients=Blocks(32, 32, 2112, 2, stages=3, group=2), pairs=None
    )
    found = [x.operand_gradients for x in case.space.tile_candidates(case.shape, "float32", "operand_gradients", start)]
    groups = {(x.points, x.latents, x.warps): x.group for x in found}
    assert groups[32, 32, 2] == 2
    assert groups[64, 64, 4] == 1
    assert groups[64, 32, 4] == 2
    assert groups[64, 32, 2] == 1
    assert groups[16, 32, 2] == 4


@pytest.mark.slow
@pytest.mark.parametrize("op", ["triple_attention", "causal_flare"])
def test_launches_are_checked_against_the_definition(op):
    """Those of the mixer are in the next test."""
    case = make_case(op, QUICK, "float32")
    request = {**case._asdict(), "kernel": "", "task": "check", "best": None, "names": ["0"]}
    (answer,) = handle({**request, "candidates": {"0": dataclasses.asdict(table_of(case))}})
    assert 0 < answer["rms"] < 1e-5


@pytest.mark.parametrize(("fits", "found"), [(60, True), (5, False)])
def test_launches_are_checked_on_as_many_points_as_the_definition_has_memory_for(fits, found, monkeypatch):
    """The definition of causal FLARE has none for 3001 tokens of 128 latents: nothing was checked, or said."""

    def compile_all(jobs):
        def compiled(job):
            function, (operands, _) = job
            large = function.args[1] == "reference" and operands[1].shape[1] > fits
            return Program(None, "out of memory: one array takes 147 GiB") if large else programs.compile_all([job])[0]

        return [compiled(job) for job in jobs]

    monkeypatch.setattr(search_jax, "compile_all", compile_all)
    case = make_case("flare_mixer", QUICK, "float32")
    request = {**case._asdict(), "kernel": "", "task": "check", "best": None, "names": ["0"]}
    (answer,) = handle({**request, "candidates": {"0": dataclasses.asdict(table_of(case))}})
    if found:
        assert 0 < answer["rms"] < 1e-5
    else:
        assert answer["error"] == "nothing to compare with: out of memory: one array takes 147 GiB"


def test_the_default_is_what_the_project_is_measured_on():
    _, cases = parse([])
    assert [(case.op, case.name, case.dtype) for case in cases] == list(DEFAULTS)
    assert {case.implementation for case in cases} == {"pallas"}


def test_sizes_replace_a_named_shape():
    _, (case,) = parse(["--op=flare_mixer", "--sizes=1,40000,8,256,8", "--dtype=float32"])
    assert vars(case.shape) == {"batch": 1, "points": 40_000, "heads": 8, "latents": 256, "width": 8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op=flare_layer"], "op is 'flare_layer'; give one or more of flare_mixer"),
        (["--op=flare_mixer", "--kernel=pair"], "kernel is 'pair'; give one or more of gather"),
        (["--kernel=gather"], "kernel is gather for 7 ops; give the one --op that it is of"),
        (["--op=flare_mixer", "--implementation=triton"], "implementation of flare_mixer is 'triton'"),
        (["--op=flare_mixer", "--sizes=1,2"], "give positive integers for batch,points,heads,latents,width"),
        (["--sizes=1,2"], "give one --op and no --shape"),
        (["--shape=huge"], "shape is 'huge'"),
        (["--dtype=float16"], "dtype is 'float16'; give one or more of float32, bfloat16"),
        (["--op=triple_attention", "--dtype=float32"], "no default case of triple_attention is float32"),
    ],
)
def test_bad_options_are_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert message in capsys.readouterr().err


def test_kernels_for_few_points_are_timed_with_the_other_one_of_their_pass():
    space = SPACES["flare_mixer"]
    shape = MixerShape(1, 40, 2, 16, 8)
    bench = space.Bench(shape, "float32", "pallas")
    for compact, together in ((True, {"gather": 2, "operand_gradients": 2}), (False, {"gather": 1})):
        blocks = dataclasses.replace(space.table(shape, "float32", "pallas"), compact=compact)
        for kernel, launches in together.items():
            function, arguments = bench.program(kernel, blocks)
            assert str(jax.make_jaxpr(function)(*arguments)).count("pallas_call[") == launches
