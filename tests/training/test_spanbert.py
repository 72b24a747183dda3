"""SpanBERT is BERT, and tells hidden spans from the tokens around them as a loop over spans does."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from corpus.instance_kinds import NO_PAIR, MaskedInstances
from tests.training import masked
from training.exchange import import_folder
from training.models import bert, spanbert
from training.models.layers.span_boundary import span_targets
from training.models.spanbert import SpanBertConfig, SpanBertForPretraining
from training.pretraining_batches import MaskedBatch

CONFIG = SpanBertConfig(
    vocab_size=97,
    hidden_size=48,
    num_layers=2,
    num_heads=4,
    feed_forward_size=80,
    max_seq_len=80,
    max_span_targets=6,
    place_size=10,
)


def batch_with(rows: list[tuple[int, list[int]]], segment_b: list[int] | None = None) -> MaskedBatch:
    """Rows of (length, target positions); tokens are drawn."""
    noise = np.random.default_rng(0)
    lengths = [length for length, _ in rows]
    positions = np.array([p for _, places in rows for p in places], np.int64)
    found = MaskedInstances(
        tokens=noise.integers(0, 97, sum(lengths)),
        offsets=np.cumsum([0, *lengths]),
        segment_b=np.array(segment_b or lengths),
        target_positions=positions,
        target_offsets=np.cumsum([0, *(len(places) for _, places in rows)]),
        target_tokens=noise.integers(0, 97, len(positions)),
        pair_label=np.full(len(rows), NO_PAIR),
        instance_id=np.zeros(len(rows), np.uint64),
        document=np.zeros(len(rows), np.int64),
    )
    return MaskedBatch.of(found)


def spans_one_by_one(rows, segment_b, most):
    """(left, right, place, number of the target) by a walk through each row: what span_targets does at once."""
    found, start, number = [], 0, 0
    for (length, places), second in zip(rows, segment_b, strict=True):
        special = {0, length - 1} | ({second - 1} if second < length else set())
        runs: list[list[int]] = []
        for place in places:
            if runs and runs[-1][-1] == place - 1:
                runs[-1].append(place)
            else:
                runs.append([place])
        for run in runs:
            left, right = run[0] - 1, run[-1] + 1
            inside = left >= 0 and right < length and not special & {left, *run, right}
            for i in range(len(run)):
                if inside and i < most:
                    found.append((start + left, start + right, i, number + i))
            number += len(run)
        start += length
    return found


def random_rows(seed: int) -> tuple[list[tuple[int, list[int]]], list[int]]:
    """Texts of 1 to 40 ordinary tokens between [CLS] and [SEP], some as pairs; a share of them targets, in long runs."""
    noise = np.random.default_rng(seed)
    rows, seconds = [], []
    for _ in range(8):
        length = int(noise.integers(3, 43))
        second = int(noise.integers(3, length)) if length > 6 and noise.random() < 0.5 else length
        hidden = noise.random(length) < noise.choice([0.1, 0.5, 0.9])
        if noise.random() < 0.7:  # SpanBERT never hides special tokens; the walk must not care
            hidden[[0, second - 1, length - 1]] = False
        rows.append((length, np.flatnonzero(hidden).tolist()))
        seconds.append(second)
    return rows, seconds


@pytest.fixture(scope="module")
def model() -> SpanBertForPretraining:
    return masked.shaken(SpanBertForPretraining(CONFIG))


def test_boundaries_of_a_hand_made_batch():
    rows = [(10, [3, 4, 6]), (6, [1, 2]), (7, [2, 3, 4, 5]), (12, [2, 6, 8])]
    batch = batch_with(rows, [10, 6, 7, 6])
    found = span_targets(batch, 15)
    #  row 0: 3 4 between 2 and 5, then 6 between 5 and 7; row 1 touches [CLS]; row 2 touches [SEP];
    #  row 3 begins at 23, its first [SEP] is at 5: 2 between 1 and 3, 6 touches it, 8 between 7 and 9
    assert found.left_M.tolist() == [2, 2, 5, 24, 30]
    assert found.right_M.tolist() == [5, 5, 7, 26, 32]
    assert found.place_M.tolist() == [0, 1, 0, 0, 0]
    assert torch.equal(found.tokens_M, batch.target_tokens_M[torch.tensor([0, 1, 2, 9, 11])])


@pytest.mark.parametrize("seed", range(12))
def test_boundaries_are_those_of_a_walk_through_each_row(seed):
    rows, seconds = random_rows(seed)
    batch = batch_with(rows, seconds)
    for most in (1, 6, 100):
        found = span_targets(batch, most)
        expected = spans_one_by_one(rows, seconds, most)
        assert list(
            zip(found.left_M.tolist(), found.right_M.tolist(), found.place_M.tolist(), strict=True)
        ) == [row[:3] for row in expected]
        assert torch.equal(found.tokens_M, batch.target_tokens_M[[row[3] for row in expected]])
    assert expected  # the comparison is about something


def test_the_loss_is_that_of_a_loop_over_spans(model):
    rows, seconds = random_rows(3)
    batch = batch_with(rows, seconds)
    x_TD, embedding = model.bert(batch.tokens), model.bert.embeddings.token.weight
    head = model.span_boundary
    losses, hits = [], 0
    for left, right, place, number in spans_one_by_one(rows, seconds, 6):
        h = torch.cat([x_TD[left], x_TD[right], head.place.weight[place]])
        for dense, norm in ((head.first, head.first_norm), (head.second, head.second_norm)):
            h = F.layer_norm(F.gelu(dense.weight @ h + dense.bias), (48,), norm.weight, norm.bias, 1e-12)
        scores = embedding @ h + head.bias
        losses.append(F.cross_entropy(scores, batch.target_tokens_M[number]))
        hits += int(scores.argmax() == batch.target_tokens_M[number])
    outcome = model(batch)
    torch.testing.assert_close(
        outcome.parts["span_boundary"], torch.stack(losses).mean(), atol=1e-5, rtol=1e-5
    )
    assert outcome.counts["span_boundary_count"] == len(losses) > 20
    assert outcome.counts["span_boundary_correct"] == hits
    grads = torch.autograd.grad(outcome.parts["span_boundary"], list(head.parameters()), retain_graph=True)
    expected = torch.autograd.grad(torch.stack(losses).mean(), list(head.parameters()))
    for grad, their_grad in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, their_grad, atol=1e-6, rtol=1e-4)


def test_no_gradient_of_a_span_leaves_its_sequence(model):
    batch = batch_with([(12, [4, 5]), (9, [3]), (20, [7, 8, 9])])
    embedded = []
    handle = model.bert.embeddings.register_forward_hook(lambda _, __, output: embedded.append(output))
    x_TD = model.bert(batch.tokens)
    handle.remove()
    scores = model.span_boundary(x_TD, span_targets(batch, 6), model.bert.embeddings.token.weight)
    (grad,) = torch.autograd.grad(scores[2].square().sum(), embedded[0])  # the one target of the second row
    assert grad[12:21].abs().sum() > 0
    assert torch.count_nonzero(grad[:12]) == torch.count_nonzero(grad[21:]) == 0


def test_a_batch_without_spans_has_no_boundary_loss(model):
    for rows in ([(3, [1]), (4, [1, 2])], [(9, [])]):
        batch = batch_with(rows)
        losses = model(batch)
        assert losses.parts["span_boundary"] == 0 == model.predictions(batch)["span_boundary"]
        losses.total.backward()


def test_masked_words_are_predicted_as_transformers_bert_does(tmp_path):
    torch.manual_seed(0)
    shape = transformers.BertConfig(
        vocab_size=97,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=80,
    )
    theirs = masked.shaken(transformers.BertForMaskedLM(shape))
    theirs.save_pretrained(tmp_path)
    ours = import_folder(tmp_path, family=SpanBertConfig).eval()
    assert isinstance(ours, SpanBertForPretraining)
    rows, seconds = random_rows(1)
    batch = batch_with(rows, seconds)
    inputs, real_BL = masked.padded(batch)
    expected = theirs(**inputs, output_hidden_states=True)
    for state, their_state in zip(ours.bert.states(batch.tokens), expected.hidden_states, strict=True):
        torch.testing.assert_close(state, their_state[real_BL], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(batch).parts["masked_lm"], expected.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["base", "large"])
def test_published_sizes(name):
    config, alike = getattr(spanbert, name)(), getattr(bert, name)(28996)
    model, same = config.network(seed=None), alike.network(seed=None)
    assert (config.max_span_targets, config.place_size) == (15, 200)
    assert masked.parameters_in(model.bert) == masked.parameters_in(same.bert) - masked.parameters_in(
        same.bert.pooler
    )
    size = config.hidden_size
    head = 15 * 200 + (2 * size + 200) * size + size * size + 6 * size + 28996
    assert masked.parameters_in(model.span_boundary) == head


def test_packed_equals_alone(model):
    masked.assert_packed_equals_alone(model.bert, masked.random_batch(vocab_size=97))


def test_filler_rows_change_neither_the_loss_nor_a_gradient(monkeypatch):
    batch = batch_with(*random_rows(2))
    masked.assert_filler_changes_nothing(SpanBertForPretraining(CONFIG, seed=1), batch, monkeypatch)


def test_autocast_keeps_sums_losses_and_gradients_in_float32(model):
    masked.assert_autocast_keeps_float32(model, model.bert, batch_with(*random_rows(6)))


def test_predictions_are_those_of_the_losses(model):
    batch = batch_with(*random_rows(5))
    assert model.predictions(batch)["span_boundary"] > 10
    masked.assert_predictions_name_the_parts(model, batch)


def test_first_weights_are_normal_and_a_function_of_the_seed_alone():
    masked.assert_first_weights(lambda seed: SpanBertForPretraining(CONFIG, seed=seed), cut=False)


def test_it_learns_a_handful_of_sequences():
    first, last = masked.learned(
        SpanBertForPretraining(CONFIG), batch_with(*(rows[:5] for rows in random_rows(4)))
    )
    assert first.total.item() == pytest.approx(2 * math.log(97), abs=0.6)
    assert last.parts["masked_lm"].item() < 0.3
    assert last.parts["span_boundary"].item() < 0.3


def test_bad_sizes_get_one_sentence():
    with pytest.raises(ValueError, match="max_span_targets 0: it is a count; give 1 or more"):
        SpanBertConfig(**{**vars(CONFIG), "max_span_targets": 0})
