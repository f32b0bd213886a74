import json
import math
import os

import numpy as np
import pytest

from runtime.files import remove_leftovers, replacing, write_text
from runtime.json_files import encode, read_object, write_json
from runtime.locks import locked


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(TypeError), replacing(path) as temporary:
        temporary.write_text(object())
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path):
    path = tmp_path / "folder"
    for _ in range(2):
        path.mkdir(exist_ok=True)
        if (path / "kept").exists():
            with pytest.raises(OSError, match="not empty"), replacing(path) as temporary:
                temporary.mkdir()
        else:
            with replacing(path) as temporary:
                temporary.mkdir()
                (temporary / "kept").write_text("")
        assert [one.name for one in path.iterdir()] == ["kept"]
    assert os.listdir(tmp_path) == ["folder"]


def test_leftovers_of_killed_programs_go(tmp_path):
    for name in (".a.1.tmp.json", ".b.2.tmp", "kept.tmp", ".hidden"):
        (tmp_path / name).write_text("")
    (tmp_path / ".folder.3.tmp").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "kept.tmp"]


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path):
    path = tmp_path / "a.json"
    content = {"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf, "d": np.float64("nan"), "e": "NaN"}}
    write_json(path, content)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "a": [None, 1.5, [None]],
        "b": {"c": None, "d": None, "e": "NaN"},
    }
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_object(path)["b"]["e"] == "NaN"
    assert encode({"ä": 1}) == '{"ä": 1}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "JSON list"),
        ("null", "JSON null"),
        ("3", "JSON number"),
        ("{", "Expecting"),
        ("[" * 99999, "too deeply"),
    ],
)
def test_what_is_no_json_object(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_object(path)


def test_one_process_at_a_time(tmp_path):
    with locked(tmp_path, "busy; wait"):
        with pytest.raises(ValueError, match="busy; wait"), locked(tmp_path, "busy; wait"):
            pass
        with pytest.raises(ValueError, match="busy; wait"), locked(tmp_path, "busy; wait"):
            pass
    with locked(tmp_path, "busy; wait"):
        assert os.listdir(tmp_path) == []
