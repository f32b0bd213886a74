"""Checkpoints: which are kept, whoever wrote them; none that is not finite; damage falls back to the one before."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import seeds
from experiments.errors import UserError
from experiments.training.checkpoints import Checkpoints, SavedCheckpoints
from experiments.training.mesh import make_mesh
from experiments.training.optimizers import build_packing
from experiments.training.saved_state import to_saved
from experiments.training.setup import build_setup
from experiments.training.state import create_state
from flare_jax.convert.checkpoints import OtherStateError, make_record, read_record
from flare_jax.convert.runs import read_run
from tests.experiments.training.runs import Runs
from tests.experiments.training.toy import toy_config, toy_params, toy_task

PACKING = build_packing("adamw", toy_params())
CONFIG = {"model": {"type": "flare"}, "eval": {"weights": "raw"}}
NAN = float("nan")


def _state(step=0, value=1.0):
    state = create_state(toy_params(), PACKING, optax.adam(0.1), 0, ema=True)
    return state._replace(step=jnp.int32(step), params=jax.tree.map(lambda x: x * value, state.params))


def _open(folder, **options):
    keep = {"keep_last": 2, "keep_best": 1, "metric": "error", "config": CONFIG, **options}
    return Checkpoints(folder / "checkpoints", PACKING, **keep)


def _write(folder, metrics, sessions, **options):
    """Save steps 1, 2, … with `metrics`, `sessions` giving how many of them each process saves."""
    step = 0
    for count in sessions:
        checkpoints = _open(folder, **options)
        checkpoints.prune()
        for _ in range(count):
            metric = metrics[step]
            step += 1
            checkpoints.save(_state(step), step, None if metric is None else {"error": metric})
        checkpoints.wait()
        checkpoints.close()
    return SavedCheckpoints(folder / "checkpoints", PACKING).steps()


@pytest.mark.parametrize(
    ("metrics", "sessions", "kept"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (6,), [1, 5, 6]),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (3, 3), [1, 5, 6]),
        ([1.0, 2.0, NAN, 4.0, 5.0, 6.0], (6,), [1, 5, 6]),
        ([1.0, 2.0, NAN, 4.0, 5.0, 6.0], (1, 4, 1, 0), [1, 5, 6]),
        ([NAN, -float("inf"), 3.0, None, 5.0, 6.0], (3, 3), [3, 5, 6]),
        ([NAN, None, NAN, NAN], (2, 2), [3, 4]),
        ([2.0, 2.0, 3.0, 3.0], (4,), [2, 3, 4]),
        ([2.0, 2.0, 3.0, 3.0], (3, 1), [2, 3, 4]),
    ],
)
def test_the_best_is_kept_whoever_saved_it(tmp_path, metrics, sessions, kept):
    assert _write(tmp_path, metrics, sessions) == kept


def test_higher_can_be_better_and_several_can_be_best(tmp_path):
    metrics = [1.0, 9.0, NAN, 8.0, 5.0, 6.0]
    assert _write(tmp_path, metrics, (2, 4), keep_best=2, higher_is_better=True) == [2, 4, 5, 6]


def test_a_checkpoint_beside_the_plan_takes_no_others_place(tmp_path):
    _write(tmp_path, [1.0, 2.0, 3.0], (3,))
    first = _open(tmp_path)
    first.save(_state(4), 4, None, interim=True)
    first.wait()
    first.close()
    again = _open(tmp_path)
    again.prune()
    assert again.steps() == [1, 2, 3, 4]
    again.save(_state(5), 5, {"error": 5.0})
    again.wait()
    again.close()
    assert again.steps() == [1, 3, 5]


def test_what_a_killed_run_did_not_remove_goes_when_it_is_opened(tmp_path):
    _write(tmp_path, [4.0, 3.0, 2.0, 1.0], (4,), keep_last=4)
    checkpoints = _open(tmp_path)
    checkpoints.prune()
    checkpoints.close()
    assert checkpoints.steps() == [3, 4]


@pytest.mark.parametrize("where", ["params", "ema", "opt_state"])
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, where, value):
    checkpoints = _open(tmp_path)
    checkpoints.save(_state(3), 3, None)
    state = _state(4)
    spoil = lambda x: x.at[0].set(value) if x.ndim and jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    with pytest.raises(UserError, match=rf"after step 4 is not finite .*{where}.* the checkpoint of step 3 is kept"):
        checkpoints.save(state._replace(**{where: jax.tree.map(spoil, getattr(state, where))}), 4, None)
    checkpoints.close()
    assert checkpoints.steps() == [3]


def test_a_state_is_restored_by_shapes_alone(tmp_path):
    checkpoints, state = _open(tmp_path), _state(3, value=2.0)
    checkpoints.save(state, 3, None)
    checkpoints.close()
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in toy_params().items()}
    template = create_state(shapes, PACKING, optax.adam(0.1), 0, ema=True)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(template))
    restored = SavedCheckpoints(tmp_path / "checkpoints", PACKING).restore(make_mesh(1, 1).replicate(template), 3)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored._replace(key=0), state._replace(key=0))
    assert (jax.random.key_data(restored.key) == jax.random.key_data(state.key)).all()


def test_the_record_is_json_whatever_the_numbers(tmp_path):
    _write(tmp_path, [NAN], (1,), config={"train": {"clip_norm": float("inf")}})
    text = (tmp_path / "checkpoints" / "1" / "record" / "metadata").read_text()
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["metrics"] == {"error": None}
    assert content["config"] == {"train": {"clip_norm": None}}


NOTES, RECORD = "_CHECKPOINT_METADATA", "record/metadata"
WRONG = ["[]", '"text"', "{", '{"commit_timestamp_nsecs": "x"}', "[" * 99999]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    _write(folder, [1.0, 2.0], (2,))
    return folder


@pytest.mark.parametrize("content", WRONG)
@pytest.mark.parametrize("file", [NOTES, RECORD])
def test_damaged_json_beside_the_arrays(two, tmp_path, file, content):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints" / "2" / file).write_text(content)
    said = []
    read_only = SavedCheckpoints(tmp_path / "checkpoints", PACKING).restore_latest(_state(), said.append)
    checkpoints = _open(tmp_path)
    state = checkpoints.restore_latest(_state(), said.append)
    checkpoints.drop_after(int(state.step))
    checkpoints.prune()
    checkpoints.save(_state(3), 3, {"error": 3.0})
    checkpoints.wait()
    checkpoints.close()
    # The notes are Orbax's, and the arrays are proven by their hash without them; a record holds that hash.
    assert int(read_only.step) == int(state.step) == (2 if file == NOTES else 1)
    assert len(said) == (0 if file == NOTES else 2)
    assert checkpoints.steps() == ([1, 2, 3] if file == NOTES else [1, 3])


@pytest.mark.parametrize("name", ["digest", "weights_digest", "config", "format"])
def test_no_sum_is_skipped(two, tmp_path, name):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    checkpoint = tmp_path / "checkpoints" / "2"
    record = read_record(checkpoint)
    del record[name]
    (checkpoint / RECORD).write_text(json.dumps(record))
    with pytest.raises(UserError, match=name):
        SavedCheckpoints(tmp_path / "checkpoints", PACKING).restore(_state(), 2)
    with pytest.raises(ValueError, match=rf"{name}.*choose another with --step"):
        read_run(tmp_path)
    record = make_record(to_saved(_state(2, value=2.0), PACKING), None, CONFIG)
    (checkpoint / RECORD).write_text(json.dumps(record))
    with pytest.raises(UserError, match="does not match its own hash"):
        SavedCheckpoints(tmp_path / "checkpoints", PACKING).restore(_state(), 2)
    with pytest.raises(ValueError, match="does not match its own hash"):
        read_run(tmp_path)
    np.testing.assert_array_equal(read_run(tmp_path, 1).weights["ema"]["a.bias"], [0.0])


def _other(params=None, packing=PACKING, optimizer=None, ema=True):
    state = create_state(toy_params() if params is None else params, packing, optimizer or optax.adam(0.1), 0, ema=ema)
    return make_mesh(1, 1).replicate(state), packing


WIDER = {"a.kernel": jnp.zeros((3, 1)), "a.bias": jnp.zeros(1)}
OPTIMIZER = "an optimizer's state of another structure than this run has, "


@pytest.mark.parametrize(
    ("other", "words", "remedy"),
    [
        # What Muon had before its state was one of stacks differs in the same way.
        (lambda: _other(optimizer=optax.sgd(0.1, momentum=0.9)),
         OPTIMIZER + "7 arrays, first opt_state/0/count (int32[] there, absent here); opt_state/0/mu/decay",
         "can be used, to evaluate, to predict, and by --config.train.init_from to train on in another workdir"),
        (lambda: _other(WIDER, build_packing("adamw", WIDER)),
         "weights of another structure than this run has, 4 arrays, first ema/a.kernel (float32[2, 1] there, float",
         "it is of another model: move it away, or start in another workdir"),
        (lambda: _other(ema=False), "weights of another structure than this run has, 2 arrays, first ema/a.bias (float",
         "it is of another model: move it away, or start in another workdir"),
    ],
)  # fmt: skip
def test_a_sound_checkpoint_of_another_structure_is_described_and_not_passed_over(two, tmp_path, other, words, remedy):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    template, packing = other()
    saved, said = SavedCheckpoints(tmp_path / "checkpoints", packing), []
    for restore in (lambda: saved.restore(template, 2), lambda: saved.restore_latest(template, said.append)):
        with pytest.raises(OtherStateError) as caught:
            restore()
        assert f"{tmp_path}/checkpoints/2 holds {words}" in str(caught.value)
        assert str(caught.value).endswith(remedy)
    assert not said
    assert saved.steps() == [1, 2]


def test_weights_are_evaluated_whatever_the_optimizer_was(tmp_path, capsys):
    config = toy_config(epochs=1)
    Runs(config, toy_task(), lambda seed: toy_params()).train(tmp_path)
    config.optimizer.name = "lion"
    setup = build_setup(toy_task(), toy_params(), config, 0, make_mesh(1, 1))
    state = seeds._restore(setup, tmp_path, None)
    assert "an optimizer's state of another structure" in capsys.readouterr().out
    assert int(state.step) == 6
    for kind, params in setup.weights(state).items():
        for name, value in read_run(tmp_path).weights[kind].items():
            np.testing.assert_array_equal(params[name], value)
    config.train.ema_decay = 0.0
    with pytest.raises(OtherStateError, match="holds weights of another structure"):
        seeds._restore(build_setup(toy_task(), toy_params(), config, 0, make_mesh(1, 1)), tmp_path, None)


def test_where_no_checkpoint_is_readable_the_reason_is_said(two, tmp_path):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    for step in "12":
        (tmp_path / "checkpoints" / step / RECORD).write_text("{")
    said = []
    with pytest.raises(UserError, match=r"none of the checkpoints \[1, 2\] in .* first since .*/1 cannot be read"):
        SavedCheckpoints(tmp_path / "checkpoints", PACKING).restore_latest(_state(), said.append)
    assert len(said) == 1


def test_a_renamed_checkpoint_is_noticed(two, tmp_path):
    shutil.copytree(two / "checkpoints" / "1", tmp_path / "checkpoints" / "7")
    with pytest.raises(UserError, match=r"checkpoints/7 holds step 1; it was renamed"):
        SavedCheckpoints(tmp_path / "checkpoints", PACKING).restore(_state(), 7)
