"""Which runs --where chooses, and which options --set may not change: those for which the labels of runs stand."""

from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.sweep.runs import plan_runs
from experiments.sweep.study import load_study


def plan(name, where=None, **changes):
    """Return the runs of a study, without any data; `changes` have __ for the dot of an option."""
    chosen = {column: tuple(values.split("|")) for column, values in (where or {}).items()}
    options = {option.replace("__", "."): value for option, value in changes.items()}
    return plan_runs(load_study(f"studies/{name}"), Path("nowhere"), changes=options, where=chosen)


@pytest.mark.parametrize(
    ("name", "where", "changes", "words"),
    [
        (
            "mixers.py",
            {"model": "flare"},
            {"model__num_blocks": 3},
            "would make the label num_blocks=2 false, for study mixers varies model.num_blocks; leave it out and "
            'choose runs with --where="num_blocks=2|4|8"',
        ),
        ("mixers.py", {"num_blocks": "2"}, {"model__num_blocks": 4}, 'choose runs with --where="num_blocks=4"'),
        ("spectra.py:smoke", {}, {"model__num_latents": 8}, "the label num_latents=4 false"),
        ("num_layers.py", {"mlp": "feed-forward"}, {"model__num_layers_ffn": 1}, "the label layers=0 false"),
        ("routing.py", {}, {"optimizer__name": "muon"}, 'choose runs with --where="optimizer=muon"'),
        ("routing.py", {}, {"optimizer__muon_learning_rate": 0.01}, 'choose runs with --where="optimizer=muon"'),
        # Also of runs that are chosen alone.
        ("routing.py", {"optimizer": "adamw"}, {"optimizer__name": "muon"}, "the label optimizer=adamw false"),
        ("routing.py", {"optimizer": "adamw"}, {"optimizer__name": "lion"}, '--where="optimizer=adamw|muon"'),
        (
            "routing.py",
            {"routing": "FLARE", "optimizer": "adamw"},
            {"model__qk_norm": True, "train__epochs": 2},
            "the label routing=FLARE false",
        ),
        ("num_heads.py", {"head_width": "8"}, {"model__num_heads": 4}, '--where="head_width=16"'),
        ("shared_latents.py", {"latents": "shared"}, {"model__shared_latents": False}, '--where="latents=independent"'),
        ("language.py", {}, {"train__batch_size": 16}, '--where="text=shakespeare|python|novels"'),
        # What the configs of a study are made for.
        ("comparison.py", {"data": "elasticity"}, {"data__name": "darcy"}, "the configs of study comparison choose"),
        ("listops.py", {}, {"model__backend": "flare"}, "the configs of study listops choose model.backend"),
    ],
)
def test_no_option_is_changed_for_which_labels_stand(name, where, changes, words):
    with pytest.raises(UserError) as caught:
        plan(name, where, **changes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "where", "changes"),
    [
        ("mixers.py", {"num_blocks": "8", "model": "flare"}, {"train__epochs": 20, "model__num_blocks": 8}),
        (
            "mixers.py",
            {"num_blocks": "8", "model": "flare|flare_pp"},
            {"optimizer__name": "muon", "optimizer__muon_learning_rate": 0.005},
        ),
        ("mixers.py:pipe", {"num_blocks": "8"}, {"train__matmul_precision": "default"}),
        ("mixers.py", {"num_blocks": "8", "model": "flare_pp"}, {"model__latent_std": 1.0}),
        ("routing.py:small", {"routing": "FLARE|flare_pp"}, {"train__epochs": 2}),
        ("routing.py", {"optimizer": "muon", "routing": "FLARE"}, {"optimizer__muon_learning_rate": 0.0025}),
        # Of one text alone, no label says the size of the batches.
        ("language.py", {"text": "python", "model": "gla"}, {"train__batch_size": 32}),
        ("additive.py", {"model": "flare"}, {"train__epochs": 1}),
    ],
)
def test_options_of_which_no_label_speaks_are_changed_in_all_runs(name, where, changes):
    runs = plan(name, where, **changes)
    assert runs
    for run in runs:
        for option, value in changes.items():
            section, _, key = option.partition("__")
            assert run.config[section][key] == value


def test_where_chooses_among_measurements_too():
    assert {run.labels["text"] for run in plan("language.py", {"text": "python"})} == {"python"}
    (decoding,) = plan("language.py", {"part": "decode"})
    assert decoding.labels == {"part": "decode"}
    assert len(plan("language.py")) == len(plan("language.py", {"text": "shakespeare|python|novels"})) + 2


@pytest.mark.parametrize(("name", "columns"), [("language.py", "text, model, part"), ("time_memory.py", "program")])
def test_columns_are_offered_that_choose_something(name, columns):
    with pytest.raises(UserError, match=f"choose from the columns {columns}$"):
        plan(name, {"batch": "1"})
