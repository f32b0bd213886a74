"""`python -m configs` lists every experiment with what it is expected to give."""

import re
import sys

import pytest

from configs import __main__ as listing
from configs.expected import Expected

NAMES = list(listing.experiments())


def test_every_config_says_what_to_expect():
    assert "flare_elas" in NAMES
    assert not set(NAMES) & set(listing.GENERAL)
    for name in NAMES:
        module = listing._module(name)
        assert module.EXPECTED is None or isinstance(module.EXPECTED, Expected), name
        assert f"--config=configs/{name}.py" in module.__doc__


def test_the_list_and_its_filter(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["configs"])
    listing.main()
    full = capsys.readouterr().out
    assert all(f"--config=configs/{name}.py" in full for name in NAMES)
    assert re.search(r"test/rel_l2 0.00216 on generated data; 0.79 ms per step, 4 min on one H200", full)
    monkeypatch.setattr(sys, "argv", ["configs", "cylinder"])
    listing.main()
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("flare_")] == [
        line for line in full.splitlines() if line.startswith("flare_cylinder")
    ]
    monkeypatch.setattr(sys, "argv", ["configs", "cylindr"])
    with pytest.raises(SystemExit):
        listing.main()
    assert "error: no experiment has the word 'cylindr'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "options", "phrase"),
    [(30, (), "30 s on one GPU"), (None, ("--config.a=1",), "data with --config.a=1; 2 ms per step on one GPU")],
)
def test_phrases(seconds, options, phrase):
    step_ms = 2.0 if seconds is None else None
    expected = Expected(
        metric="m", value=0.1, device="GPU", data="public", seconds=seconds, step_ms=step_ms, options=options
    )
    assert expected.describe().endswith(phrase)


def test_a_time_alone_is_no_error():
    assert Expected(step_ms=3.0, device="GPU").describe() == "error not measured; 3 ms per step on one GPU"
