"""What all command lines share: expected errors as one sentence, numbers within their range."""

import argparse

import pytest

from runtime.command import Parser, integer, seconds, sentence


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a\n  b"), "a b"),
        (ValueError(), "ValueError"),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            "the file system refuses /x: No such file or directory; ",
        ),
        (MemoryError(), "this is too large for the machine (out of memory); ask for less data"),
    ],
)
def test_errors_are_sentences(error, words):
    assert sentence(error).startswith(words)
    assert "\n" not in sentence(error)


def test_a_parser_ends_with_one_line(capsys):
    parser = Parser(prog="p")
    parser.add_argument("--number", type=integer(1, 5))
    for arguments, words in ((["--number=9"], "9 must be an integer from 1 to 5"), (["--num=1"], "unrecognized")):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(arguments)
        (line,) = capsys.readouterr().err.splitlines()
        assert (ended.value.code, line.startswith("error: "), words in line) == (2, True, True)
    assert seconds("1.5") == 1.5
    for text in ("-1", "nan", "soon"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be a number of seconds"):
            seconds(text)


def test_a_parser_ends_sentences_once(capsys):
    with pytest.raises(SystemExit):
        Parser(prog="p").error("op is 'x'; give one.")
    assert capsys.readouterr().err == "error: op is 'x'; give one; see --help\n"
