from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.sequence.dataset import SequenceDataset, TokenSplit, narrow, pack


def split(samples=3, tokens=4, token_level=False):
    labels = np.zeros((samples, tokens) if token_level else samples, int)
    return TokenSplit(np.ones((samples, tokens), int), labels, np.full(samples, tokens))


def dataset(**changes):
    facts = {"vocab_size": 5, "num_labels": 2, "max_length": 4, **changes}
    return SequenceDataset("toy", split(), {"test": split(2)}, **facts)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_labels": 1}, "num_labels=1"),
        ({"vocab_size": 1}, "the train split of toy holds token 1, outside 0 to 0"),
        ({"max_length": 5}, "rows of 4 tokens where 5 are expected"),
        ({"max_length": 4, "documents": 2}, "where 8 are expected"),
    ],
)
def test_wrong_facts(changes, words):
    with pytest.raises(DataError, match=words):
        dataset(**changes)


def test_wrong_splits():
    with pytest.raises(DataError, match=r"one label per sample, \(3,\)"):
        TokenSplit(np.ones((3, 4), int), np.zeros(4, int), np.full(3, 4))
    with pytest.raises(DataError, match="there are 3 samples"):
        TokenSplit(np.ones((3, 4), int), np.zeros(3, int), np.full(2, 4))
    bad = replace(split(), labels=np.array([0, 1, 7]))
    with pytest.raises(DataError, match="holds label 7, outside 0 to 1"):
        replace(dataset(), train=bad)
    assert replace(dataset(), train=replace(split(), labels=np.array([0, -100, 1]))).num_logits == 1


def test_padding_token_may_follow_the_vocabulary():
    padded = replace(split(), input_ids=np.array([[1, 2, 5, 5]] * 3))
    assert SequenceDataset("toy", padded, {"test": padded}, 5, 2, 4, pad_id=5).pad_id == 5
    with pytest.raises(DataError, match="token 5, outside 0 to 4"):
        SequenceDataset("toy", padded, {"test": padded}, 5, 2, 4)


def test_rows_are_packed_in_narrow_integers():
    packed = pack([np.array([1, 2, 3]), np.array([4])], 4, -100)
    assert packed.tolist() == [[1, 2, 3, -100], [4, -100, -100, -100]]
    assert packed.dtype.itemsize <= 2
    assert pack([np.array([300])], 1, 0).dtype == np.uint16
    assert narrow(np.array([0, 255])).dtype == np.uint8
    assert narrow(np.array([-100, 9])).dtype == np.int8 or narrow(np.array([-100, 9])).dtype == np.int16
    assert narrow(np.empty(0, int)).size == 0
