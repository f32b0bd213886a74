"""Corpora: documents, splits, tokens and back, rows in which every token is a label once; and associative recall."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.language import token_files
from data_pipeline.language.corpus import Document, split_documents
from data_pipeline.language.recall import make_recall
from data_pipeline.language.token_files import TextOptions, cut_rows, open_token_files, prepare, selection
from data_pipeline.language.tokenizer import SEPARATOR, BytePairTokenizer, ByteTokenizer

TEXT = "Grüße an alle.\nThe cat sat on the mat, the cat sat.\n"


@pytest.fixture
def folder(tmp_path):
    """A folder of six documents, one with a byte order mark and line ends of Windows, and a hidden file."""
    for number in range(6):
        (tmp_path / "in" / f"author{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"author{number % 3}" / f"{number}.txt").write_text(f"{number} {TEXT}" * 4)
    (tmp_path / "in" / "author0" / "0.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    (tmp_path / "in" / ".hidden.txt").write_text("hidden")
    (tmp_path / "in" / "notes.md").write_text("other")
    return tmp_path / "in"


def options(folder, **changes):
    return TextOptions(folder, **{"val": "author1/*", "test": "author2/*", **changes})


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_tokens_of_a_folder_are_its_text_and_separators(folder, tmp_path, tokenizer):
    said = []
    files = prepare(options(folder, tokenizer=tokenizer, vocab_size=270), tmp_path, said.append)
    assert [*files.splits] == ["train", "val", "test"]
    assert selection(files.splits) == "val"
    train = np.asarray(files.splits["train"])
    assert (train == SEPARATOR).sum() == 2
    assert files.tokenizer.decode(train).decode() == TEXT + f"3 {TEXT}" * 4
    assert files.meta["bytes"]["train"] == files.tokenizer.token_bytes()[train].sum()
    assert train.dtype == (np.uint8 if tokenizer == "bytes" else np.uint16)
    again = prepare(options(folder, tokenizer=tokenizer, vocab_size=270), tmp_path, said.append)
    assert len(said) == 1
    assert again.fingerprint() == files.fingerprint() == open_token_files(files.folder).fingerprint()
    if tokenizer == "bpe":
        assert files.tokenizer.vocab_size == 270
        assert len(train) < 0.8 * files.meta["bytes"]["train"]


def test_two_runs_that_begin_together_encode_a_text_once(folder, tmp_path, monkeypatch):
    begun, encode = [], token_files._encode

    def encode_slowly(*arguments):
        begun.append(arguments)
        time.sleep(0.2)
        encode(*arguments)

    monkeypatch.setattr(token_files, "_encode", encode_slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: prepare(options(folder), tmp_path), range(2))
    assert len(begun) == 1
    np.testing.assert_array_equal(first.splits["train"], second.splits["train"])


def test_one_file_is_cut_at_its_end(tmp_path):
    (tmp_path / "text.txt").write_text("0123456789" * 10)
    files = prepare(TextOptions(tmp_path / "text.txt", val_share=0.2), tmp_path)
    assert {name: len(x) - 1 for name, x in files.splits.items()} == {"train": 70, "val": 20, "test": 10}


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
@pytest.mark.parametrize("count", [3003, 3004, 3005])
def test_no_character_is_cut(tmp_path, count, tokenizer):
    (tmp_path / "text.txt").write_text("é\n" * count)
    text = TextOptions(tmp_path / "text.txt", val_share=0.07, tokenizer=tokenizer, vocab_size=260)
    files = prepare(text, tmp_path)
    parts = [files.tokenizer.decode(np.asarray(tokens)).decode() for tokens in files.splits.values()]
    assert "".join(parts) == "é\n" * count


def test_shares_of_a_folder_are_whole_documents(folder, tmp_path):
    files = prepare(options(folder, val="", test="", test_share=0.3), tmp_path)
    assert files.meta["documents"] == {"train": 4, "test": 2}


@pytest.mark.parametrize(
    ("sizes", "shares", "want"),
    [
        ((30, 25, 15, 30), (0.0, 0.1), (3, 0, 1)),  # the middle of the last one lies before the last tenth
        ((30, 25, 20, 25), (0.05, 0.1), (2, 1, 1)),
        ((50, 30, 15, 5), (0.05, 0.1), (2, 1, 1)),
        ((10, 10, 10, 10, 10), (0.2, 0.2), (3, 1, 1)),
    ],
)
def test_a_split_that_is_wanted_has_a_document(sizes, shares, want):
    documents = [Document(f"{place}.txt", b"a" * size, "") for place, size in enumerate(sizes)]
    splits = split_documents(documents, "", "", *shares)
    assert tuple(len(splits.get(name, ())) for name in ("train", "val", "test")) == want
    assert [*chain(*splits.values())] == documents


def test_many_documents_are_split_in_linear_time():
    """A few hundred thousand of them take no minutes."""
    found = split_documents([Document("a", b"text", "")] * 300_000, "", "", 0.1, 0.1)
    assert [len(documents) for documents in found.values()] == [240_000, 30_000, 30_000]


@pytest.mark.parametrize(
    ("sizes", "shares", "empty"),
    [
        ((0, 0), (0.0, 0.1), None),
        ((20, 30, 50), (0.0, 0.1), "test"),
        ((30, 60, 10), (0.05, 0.1), "val"),
        ((9,), (0.001, 0.1), "val"),
    ],
)
def test_a_split_that_would_leave_little_to_train_is_said_to_be_empty(sizes, shares, empty):
    documents = [Document(f"{place}.txt", b"a" * size, "") for place, size in enumerate(sizes)]
    with pytest.raises(DataError, match=f"the {empty} split of the text is empty" if empty else "the text is empty"):
        split_documents(documents, "", "", *shares)


def test_every_token_is_a_label_once():
    tokens = np.arange(1, 24, dtype=np.uint8)
    sizes = np.arange(256)
    rows = cut_rows(tokens, 5, sizes, whole=False)
    whole = np.concatenate([rows["tokens"], rows["next"][:, None]], axis=1)
    found = [row[1 : 1 + count].tolist() for row, count in zip(whole, rows["labels"], strict=True)]
    assert [*chain(*found)] == tokens[1:].tolist()
    assert rows["tokens"].shape == (5, 5)
    np.testing.assert_array_equal(rows["tokens"][1:, 0], rows["next"][:-1])
    assert rows["bytes"].sum() == tokens[1:].sum()
    assert len(cut_rows(tokens, 5, sizes, whole=True)["tokens"]) == 4
    with pytest.raises(
        DataError, match=r"23 tokens, too few for a row of data.length=23 and the label of its last one"
    ):
        cut_rows(tokens, 23, sizes, whole=True)


def test_bytes_of_characters_that_are_cut_come_back():
    tokenizer = BytePairTokenizer.train([TEXT.encode()] * 3, 270)
    ids = tokenizer.encode(TEXT.encode())
    assert tokenizer.decode(ids) == TEXT.encode()
    assert b"".join(tokenizer.decode([i]) for i in ids) == TEXT.encode()
    assert ByteTokenizer().decode(ByteTokenizer().encode(TEXT.encode())) == TEXT.encode()


def test_a_text_that_spells_the_separator_has_none_there(tmp_path):
    text = b"<|end|> ends a text: a <|end|>.\n"
    BytePairTokenizer.train([text] * 9, 270).save(tmp_path)
    for tokenizer in (BytePairTokenizer.train([text] * 9, 270), BytePairTokenizer.load(tmp_path)):
        ids = tokenizer.encode(text)
        assert SEPARATOR not in ids
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_bytes()[ids].sum() == len(text)


def test_a_tokenizer_that_is_none_is_said_to_be_that(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer.json is no tokenizer \(.*\), without which tokens mean nothing"):
        BytePairTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "absent"}, "absent does not exist; name a text file or a folder"),
        ({"files": "*.tex"}, "holds no file that fits data.files='\\*.tex'"),
        ({"files": "/somewhere/*.txt"}, "data.files='/somewhere/\\*.txt' is no pattern of names below a folder"),
        ({"test": "nobody*"}, "data.test has 'nobody\\*', which fits no document"),
        ({"test": "*"}, r"the train split of the text is empty .*; change data.val and data.test$"),
        ({"test": ""}, r"the test split of the text is empty .*; change data.test$"),
        (
            {"val": "", "test": "", "test_share": 0.0},
            r"the test split of the text is empty \(documents, \d+ here, are not cut\)",
        ),
        ({"tokenizer": "bpe", "vocab_size": 100}, "data.vocab_size=100 must lie in 257 to 65536"),
    ],
)
def test_what_cannot_be_read_or_split_is_named(folder, tmp_path, change, message):
    if "path" in change:
        change = {"path": tmp_path / change["path"]}
    with pytest.raises(DataError, match=message):
        prepare(TextOptions(**{**vars(options(folder)), **change}), tmp_path)


def test_other_encodings_zeros_and_changed_token_files_are_refused(folder, tmp_path):
    files = prepare(options(folder), tmp_path)
    (files.folder / "test.bin").write_bytes(b"other")
    with pytest.raises(DataError, match=r"test.bin is not the file that was written there; delete the folder"):
        prepare(options(folder), tmp_path)
    (folder / "author0" / "0.txt").write_bytes(b"a\0b")
    with pytest.raises(DataError, match="holds the byte 0"):
        prepare(options(folder), tmp_path)
    (folder / "author0" / "0.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not text in UTF-8 .byte 2."):
        prepare(options(folder), tmp_path)


def test_queries_of_recall_have_the_values_of_their_keys():
    recall = make_recall(pairs=4, length=32, vocab_size=32, train=500, test=50, seed=1)
    gaps = []
    for split in (recall.train, recall.test):
        for ids, labels in zip(split["input_ids"].astype(int), split["labels"], strict=True):
            known = dict(zip(ids[0:8:2], ids[1:8:2], strict=True))
            assert len(known) == 4
            assert all(0 < key < 16 <= value < 32 for key, value in known.items())
            (queries,) = np.nonzero(labels >= 0)
            assert len(queries) == 4
            assert all(labels[place] == known[ids[place]] for place in queries)
            assert np.all(ids[8:][labels[8:] < 0] == 0)
            gaps.extend((queries - 8) // 2)
    counts = np.bincount(gaps, minlength=12)
    assert counts[0] > 2 * counts[3] > counts[11] > 0
    same = make_recall(pairs=4, length=32, vocab_size=32, train=500, test=50, seed=1)
    assert same.fingerprint() == recall.fingerprint()
    with pytest.raises(DataError, match=r"data.pairs=64 needs rows of 256 tokens and as many keys"):
        make_recall(pairs=64, length=128, vocab_size=8192, train=1, test=1, seed=0)
