"""BART says what transformers' says: step by step the scores of the whole text, greedily and by beams the same tokens."""

import numpy as np
import pytest
import torch

from tests.training.bart_pair import CONFIG, Pair, make_pair
from training.batches import TokenBatch
from training.generation.beam import Beam, Patience, beam_search
from training.generation.rules import Forced, NoRepeatedNgram, Rule
from training.generation.sampling import Greedy
from training.generation.search import generate
from training.generation.stopping import Stop
from training.pretraining_batches import Seq2SeqBatch

LENGTHS = [9, 3, 30, 2, 14]
END = 2


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair(talkative=True)


def sources() -> TokenBatch:
    noise = np.random.default_rng(1)
    return TokenBatch.from_sequences([noise.integers(3, CONFIG.vocab_size, length) for length in LENGTHS])


def padded(batch: TokenBatch) -> dict[str, torch.Tensor]:
    real_BS = torch.arange(batch.max_seq_len) < batch.cu_seqlens.diff()[:, None]
    tokens_BS = torch.ones(real_BS.shape, dtype=torch.int64).masked_scatter(real_BS, batch.tokens_T)
    return {"input_ids": tokens_BS, "attention_mask": real_BS.long()}


def their_texts(theirs, new_tokens: int, **options) -> list[list[int]]:
    """What transformers says after the start token, up to the first end."""
    said_BL = theirs.generate(**padded(sources()), max_new_tokens=new_tokens, do_sample=False, **options)
    texts = [row[1:] for row in said_BL.tolist()]
    return [text[: text.index(END) + 1] if END in text else text for text in texts]


def test_each_step_gives_the_scores_of_the_whole_text(pair):
    ours, _ = pair
    batch, rows = sources(), torch.randint(CONFIG.vocab_size, (len(LENGTHS), 12))
    rows[:, 0] = CONFIG.start_id
    begun = ours.begin(batch, new_tokens=12)
    steps = [begun.logits_BV, *(ours.step(tokens_B, begun.cache) for tokens_B in rows[:, 1:].T)]
    assert torch.equal(begun.said.tokens_T, rows[:, 0])
    decoder = TokenBatch.from_sequences(list(rows.numpy()))
    whole = Seq2SeqBatch(tokens=batch, decoder=decoder, target_tokens_T=decoder.tokens_T)
    expected_BTV = ours.logits(whole).unflatten(0, rows.shape)
    torch.testing.assert_close(torch.stack(steps, 1), expected_BTV, atol=1e-5, rtol=1e-5)


def test_beams_that_change_places_and_sources_that_leave_take_their_past_along(pair):
    ours, _ = pair
    batch = sources()
    begun = ours.begin(batch, new_tokens=5)
    cache = begun.cache
    cache.widen(2)
    said_BL = torch.full((10, 1), CONFIG.start_id)
    orders = (
        [1, 0, 2, 3, 5, 4, 6, 6, 8, 9],  # beams of a source, one of them twice
        [2, 3, 4, 5, 9, 8],  # sources 0 and 3 leave
        [0, 1, 5, 4],  # source 2 leaves
    )
    source_B = torch.arange(5).repeat_interleave(2)
    for order in orders:
        rows_B = torch.tensor(order)
        tokens_B = torch.randint(CONFIG.vocab_size, (len(said_BL),))
        ours.step(tokens_B, cache)
        said_BL = torch.cat([said_BL, tokens_B[:, None]], 1)[rows_B]
        source_B = source_B[rows_B]
        cache.select(rows_B)
    last_B = torch.randint(CONFIG.vocab_size, (len(said_BL),))
    logits_BV = ours.step(last_B, cache)
    said_BL = torch.cat([said_BL, last_B[:, None]], 1)
    rows = batch.tokens_T.split(LENGTHS)
    whole = Seq2SeqBatch(
        tokens=TokenBatch.from_sequences([rows[number].numpy() for number in source_B]),
        decoder=TokenBatch.from_sequences(list(said_BL.numpy())),
        target_tokens_T=said_BL.flatten(),
    )
    expected_BV = ours.logits(whole).unflatten(0, said_BL.shape)[:, -1]
    torch.testing.assert_close(logits_BV, expected_BV, atol=1e-5, rtol=1e-5)


def test_greedy_texts_are_transformers(pair):
    ours, theirs = pair
    found = generate(ours, sources(), Greedy(), Stop(new_tokens=40, end_ids=(END,)))
    texts = [one.tokens for one in found]
    assert texts == their_texts(theirs, 40, num_beams=1)
    assert {text[-1] == END for text in texts} == {True, False}
    assert max(len(set(text)) for text in texts) > 10


@pytest.mark.parametrize("length_penalty", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("beams", [2, 4])
def test_texts_of_beams_are_transformers(pair, beams, length_penalty):
    ours, theirs = pair
    beam = Beam(beams=beams, length_penalty=length_penalty, patience=Patience.IF_BETTER_NOW)
    found = beam_search(ours, sources(), beam, Stop(new_tokens=20, end_ids=(END,)))
    texts = [best.tokens for best, *_ in found]
    assert texts == their_texts(
        theirs, 20, num_beams=beams, length_penalty=length_penalty, early_stopping=False
    )


def test_forced_ends_and_no_repetition_are_transformers(pair):
    ours, theirs = pair
    rules: list[Rule] = [NoRepeatedNgram(2), Forced(0, 7), Forced(14, END)]
    found = beam_search(ours, sources(), Beam(beams=3), Stop(new_tokens=15, end_ids=(END,)), rules=rules)
    options = {"no_repeat_ngram_size": 2, "forced_bos_token_id": 7, "forced_eos_token_id": END}
    texts = [best.tokens for best, *_ in found]
    assert texts == their_texts(theirs, 15, num_beams=3, **options)
    assert all(text[0] == 7 and text[-1] == END for text in texts)


def test_more_than_the_model_can_say_gets_one_sentence(pair):
    ours, _ = pair
    with pytest.raises(ValueError, match="81 new tokens: this model says at most 80"):
        ours.begin(sources(), new_tokens=81)
    long = TokenBatch.from_sequences([np.arange(3, 84)])
    with pytest.raises(ValueError, match="a sequence of 81 tokens: this model holds at most 80"):
        ours.begin(long, new_tokens=1)
