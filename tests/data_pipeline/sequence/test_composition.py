"""Labels of the composition tasks by brute force, and the splits and options of their loaders."""

import itertools

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.sequence import match3, multi_token, relations
from data_pipeline.sequence.collate import collate
from data_pipeline.sequence.composition import build
from data_pipeline.sequence.registry import load_task
from tests.data_pipeline.sequence import fakes


def first(stream, count):
    return list(itertools.islice(stream, count))


def test_function_composition_labels():
    samples = first(relations.function_composition(3), 400)
    labels = [int(sample.labels[0]) for sample in samples]
    assert labels == [int(s.input_ids[s.input_ids[0]] == 0) for s in samples]
    assert 0.4 < np.mean(labels) < 0.6
    assert {len(sample.input_ids) for sample in samples} == set(range(25, 31))


class _Script:
    """A generator that answers from a list, to reach a branch that chance hardly ever does."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def choice(self, options):
        answer = self.answers.pop(0)
        assert answer in options
        return answer


def test_function_without_a_nonzero_image_gets_one():
    values = np.zeros(5, int)
    index = relations._nonzero_image(values, _Script(3, 2))
    assert (index, values.tolist()) == (3, [0, 0, 0, 2, 0])


def test_binary_relation_labels():
    for sample in first(relations.binary_relation(1), 20):
        nodes = round(len(sample.input_ids) ** 0.5)
        edges, labels = (array.reshape(nodes, nodes) for array in (sample.input_ids, sample.labels))
        for i, j in itertools.product(range(nodes), repeat=2):
            assert labels[i, j] == any(edges[i, u] and edges[u, j] for u in range(nodes))


def test_quotient_relation_labels_and_colours():
    for sample in first(relations.quotient_relation(1), 20):
        nodes = len(sample.colors)
        tokens = relations.encode_colors(sample.input_ids, sample.colors).reshape(nodes, nodes)
        labels = sample.labels.reshape(nodes, nodes)
        colors = np.diagonal(tokens) - 1  # what a model can read off with encode_colors
        for i, j in itertools.permutations(range(nodes), 2):
            steps = itertools.permutations(range(nodes), 2)
            found = any(
                u != i and v != j and tokens[i, u] and tokens[j, v] and colors[u] == colors[v] for u, v in steps
            )
            assert labels[i, j] == found
        assert (np.diagonal(labels) == -100).all()


def test_match3_labels_and_bins():
    samples = match3.match3(400, 7, min_length=12, max_length=14, bins=2)
    for tokens, labels, _ in samples[::40]:
        want = [any((x + y + z) % 37 == 0 for y in tokens for z in tokens) for x in tokens]
        assert labels.tolist() == [int(value) for value in want]
    shares = [100 * int(labels.sum()) // len(labels) for _, labels, _ in samples]
    assert max(shares[:200]) < 50 <= min(shares[200:])
    with pytest.raises(DataError, match="no base sequence fell into bin"):
        match3.match3(40, 7, min_length=12, max_length=14, bins=40)


def test_match3_split_shares_no_base_sequence():
    samples = match3.match3(1000, 7, min_length=12, max_length=14, bins=2)
    bases = np.array([base for _, _, base in samples])
    train, held_out = match3.split_by_base(bases, 0.1, seed=0)
    assert not set(bases[train]) & set(bases[held_out])
    assert 0.1 <= len(held_out) / 1000 < 0.2
    assert sorted([*train, *held_out]) == list(range(1000))


def test_multi_token_answers():
    symbols = {token: symbol for symbol, token in multi_token.vocabulary().items()}
    for tokens, answer in first(multi_token.multi_token_association(9), 20):
        query, blocks = "".join(symbols[token] for token in tokens).split("#")
        holds = [set(query) <= set(block) for block in blocks.split(".")]
        assert len(tokens) == 302
        assert holds.index(True) == answer
        assert sum(holds) == 1
    with pytest.raises(DataError, match="query_length=6"):
        next(multi_token.multi_token_association(9, query_length=6))


def test_cache_of_the_original(tmp_path):
    fakes.write_strassen(tmp_path)
    dataset = load_task("match3", tmp_path, source="files", num_generate=1)
    assert (dataset.vocab_size, dataset.pad_id, dataset.num_logits) == (37, 37, 1)
    row = dataset.train
    padded = np.arange(dataset.max_length) >= row.lengths[:, None]
    assert (row.input_ids[padded] == 37).all()
    assert (row.labels[padded] == -100).all()
    assert (row.input_ids[~padded] < 37).all()
    assert (len(dataset.train), len(dataset.tests["validation"])) == (18, 2)
    # The split that these files have anyway is no contradiction.
    same = load_task("match3", tmp_path, source="files", num_generate=1, options={"split": "reference"})
    assert same.fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        ([], [], "has 0 samples and 0 rows of labels"),
        ([[1, 2]], [[1], [0]], "has 1 samples and 2 rows of labels"),
        ([[1, 2], []], [[1], [0]], "sample 1 has 0 tokens and 1 labels"),
        ([[1, 2, 3]], [[1, 0]], "sample 0 has 3 tokens and 2 labels"),
    ],
)
def test_samples_that_do_not_belong_together(inputs, labels, words):
    rows = ([np.asarray(row, np.int64) for row in part] for part in (inputs, labels))
    with pytest.raises(DataError, match=words):
        build("match3", *rows)


def test_last_tenth_validates():
    inputs = [np.array([1, index]) for index in range(20)]
    dataset = build("function_composition", inputs, [np.array([index % 2]) for index in range(20)])
    np.testing.assert_array_equal(dataset.tests["validation"].input_ids[:, 1], [18, 19])
    assert dataset.vocab_size == dataset.pad_id == 20
    assert not dataset.token_level


def test_collate_pads_to_the_longest():
    batch = collate([([1, 2, 3], [1]), ([4], [0])], pad_id=9, token_level=False)
    assert batch.input_ids.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch.labels.tolist() == [1, 0]
    assert batch.mask.tolist() == [[True] * 3, [True, False, False]]
    # A first sample of one token is no sign of one label per sample.
    tokens = collate([([1], [1]), ([4, 5], [0, 1])], pad_id=9, token_level=True)
    assert tokens.labels.tolist() == [[1, -100], [0, 1]]
    assert collate([([1, 2], [1])], pad_id=None, token_level=False).mask is None


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        ([([1], [1]), ([1, 2], [1])], {"pad_id": None, "token_level": False}, "1 to 2 tokens"),
        ([([1, 2], [1, 0])], {"pad_id": None, "token_level": False}, "token_level=True"),
    ],
)
def test_samples_that_do_not_collate(samples, options, words):
    with pytest.raises(DataError, match=words):
        collate(samples, **options)
