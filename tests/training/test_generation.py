"""Text from a model: a step is one token's work, greedy and beams are transformers' own, draws follow the
probabilities and nothing else, and what ends a text ends it.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from transformers.generation import logits_process as processors

from tests.corpus.chance import plausible_counts
from tests.training.test_gpt import FAMILIES, theirs_like
from training.batches import TokenBatch
from training.generation.beam import Beam, Patience, beam_search
from training.generation.rules import (
    FewestNewTokens,
    Forced,
    NoRepeatedNgram,
    RepetitionPenalty,
    context_of,
)
from training.generation.sampling import Greedy, Sampling
from training.generation.search import generate, stream
from training.generation.stopping import Stop, StopWords, Why
from training.models.layers.left_to_right import LeftToRight

VOCAB, NEW = 23, 12
END, OTHER_END = 19, 21  # which this random model likes to say
EARLY_STOPPING = {Patience.NONE: True, Patience.IF_BETTER_NOW: False, Patience.IF_EVER_BETTER: "never"}
ROWS = [np.random.default_rng(n).integers(1, VOCAB, length) for n, length in enumerate((3, 9, 5, 9, 1))]
PROMPTS = TokenBatch.from_sequences(ROWS)
STOP = Stop(new_tokens=NEW, end_ids=(END,))

Pair = tuple[LeftToRight, transformers.PreTrainedModel]


def made_pair(name: str) -> Pair:
    exchanged, config, kind = FAMILIES[name]
    small = replace(config, vocab_size=VOCAB, num_layers=2)
    torch.manual_seed(0)
    theirs = kind(theirs_like(name, small, pad_token_id=END)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    ours = small.network(seed=None)
    ours.load_state_dict(exchanged.from_theirs(theirs.state_dict(), small), assign=True)
    return ours.eval(), theirs


@pytest.fixture(scope="module")
def gpt2() -> Pair:
    return made_pair("gpt2")


@pytest.fixture(scope="module")
def gpt() -> Pair:
    return made_pair("gpt")


def said_by_transformers(theirs, rows: list[np.ndarray], ends: tuple[int, ...] = (END,), **options):
    """(new tokens of each row, with the one that ended it; their scores): prompts padded on the left."""
    longest = max(map(len, rows))
    ids = torch.stack([torch.from_numpy(np.pad(row, (longest - len(row), 0))) for row in rows])
    mask = torch.stack([torch.arange(longest) >= longest - len(row) for row in rows]).long()
    output = theirs.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **{"max_new_tokens": NEW, "eos_token_id": list(ends), "use_cache": True} | options,
    )
    texts = []
    for row in output.sequences[:, longest:].tolist():
        place = next((n for n, token in enumerate(row) if token in ends), len(row) - 1)
        texts.append(row[: place + 1])
    return texts, output.get("sequences_scores")


# --- the cache ---


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_says_what_reading_everything_again_says(name, request):
    model = request.getfixturevalue(name)[0]
    rows = [row.tolist() for row in ROWS]
    begun = model.begin(PROMPTS, new_tokens=6)
    torch.testing.assert_close(begun.logits_BV, read_again(model, rows), atol=1e-5, rtol=1e-5)
    begun.cache.widen(2)  # two beams of each prompt
    rows = [list(row) for row in rows for _ in range(2)]
    noise = torch.Generator().manual_seed(1)
    for keep in (None, [1, 0, 3, 3, 4, 5, 7, 6, 8, 9], [0, 1, 8, 9, 5, 4], [1, 1, 2, 3, 4, 5], None):
        if keep is not None:  # beams change places, whole prompts leave
            begun.cache.select(torch.tensor(keep))
            rows = [list(rows[k]) for k in keep]
        tokens_B = torch.randint(VOCAB, (len(rows),), generator=noise)
        for row, token in zip(rows, tokens_B.tolist(), strict=True):
            row.append(token)
        logits_BV = model.step(tokens_B, begun.cache)
        torch.testing.assert_close(logits_BV, read_again(model, rows), atol=1e-5, rtol=1e-5)


def read_again(model: LeftToRight, rows: list[list[int]]) -> torch.Tensor:
    batch = TokenBatch.from_sequences([np.array(row) for row in rows])
    with torch.no_grad():
        return model.logits(batch, batch.cu_seqlens[1:].long() - 1)


def counted_rows(model: LeftToRight) -> tuple[list[int], torch.utils.hooks.RemovableHandle]:
    """How many rows go through a layer at each call."""
    rows: list[int] = []
    up = model.layers[0].feed_forward.up
    return rows, up.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))


def test_prompts_are_read_once_without_padding_and_a_step_is_one_token_for_each_text(gpt2):
    rows, handle = counted_rows(gpt2[0])
    generate(gpt2[0], PROMPTS, Greedy(), Stop(new_tokens=4))
    assert rows == [sum(map(len, ROWS)), 5, 5, 5]
    rows.clear()
    beam_search(gpt2[0], PROMPTS, Beam(beams=3), Stop(new_tokens=4))
    assert rows == [sum(map(len, ROWS)), 15, 15, 15]
    handle.remove()


def test_finished_texts_leave_the_batch(gpt2):
    model = gpt2[0]
    lengths = [len(one.tokens) for one in generate(model, PROMPTS, Greedy(), STOP)]
    assert min(lengths) < max(lengths) - 1
    rows, handle = counted_rows(model)
    generate(model, PROMPTS, Greedy(), STOP)
    handle.remove()
    working = [sum(length > n for length in lengths) for n in range(1, max(lengths))]
    assert len(rows) == max(lengths)
    assert all(work <= read < 2 * max(work, 3) for work, read in zip(working, rows[1:], strict=True))
    assert rows[-1] < len(ROWS)


@pytest.mark.parametrize("half", ["weights", "autocast"])
def test_half_precision_says_nearly_the_same(half):
    exact, model = made_pair("gpt2")[0], made_pair("gpt2")[0]
    if half == "weights":
        model = model.bfloat16()
    tokens_B = torch.arange(len(ROWS))
    outcomes = []
    for one in (exact, model):
        with torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast" and one is model):
            begun = one.begin(PROMPTS, new_tokens=3)
            begun.cache.widen(2)
            both = tokens_B.repeat_interleave(2)
            outcomes.append(
                torch.cat([begun.logits_BV, one.step(both, begun.cache), one.step(both, begun.cache)])
            )
    assert [outcome.dtype for outcome in outcomes] == [torch.float32, torch.bfloat16]
    difference = torch.log_softmax(outcomes[1].float(), -1) - torch.log_softmax(outcomes[0], -1)
    assert difference.abs().mean() < 0.05


# --- the texts of transformers ---


@pytest.mark.parametrize("ends", [(END,), (END, OTHER_END)])
@pytest.mark.parametrize("ruled", [False, True])
def test_greedy_says_what_transformers_says(gpt2, ends, ruled):
    ours, theirs = gpt2
    rules = (NoRepeatedNgram(2), FewestNewTokens(4, ends)) if ruled else ()
    options = {"no_repeat_ngram_size": 2, "min_new_tokens": 4} if ruled else {}
    expected, _ = said_by_transformers(theirs, ROWS, ends, **options)
    made = generate(ours, PROMPTS, Greedy(), Stop(new_tokens=NEW, end_ids=ends), rules=rules)
    assert [one.tokens for one in made] == expected
    assert [one.why for one in made] == [Why.END if one.tokens[-1] in ends else Why.LENGTH for one in made]
    assert len({len(one.tokens) for one in made}) >= 3


@pytest.mark.parametrize("patience", Patience)
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize(
    ("beams", "ends", "ruled"), [(2, (END,), False), (4, (END, OTHER_END), False), (3, (END,), True)]
)
def test_beams_say_what_transformers_says(gpt2, patience, length_penalty, beams, ends, ruled):
    ours, theirs = gpt2
    rules = (NoRepeatedNgram(2), FewestNewTokens(4, ends)) if ruled else ()
    options = {"no_repeat_ngram_size": 2, "min_new_tokens": 4} if ruled else {}
    expected, scores = said_by_transformers(
        theirs,
        ROWS,
        ends,
        num_beams=beams,
        num_return_sequences=2,
        length_penalty=length_penalty,
        early_stopping=EARLY_STOPPING[patience],
        **options,
    )
    beam = Beam(beams=beams, length_penalty=length_penalty, patience=patience, best=2)
    made = beam_search(ours, PROMPTS, beam, Stop(new_tokens=NEW, end_ids=ends), rules=rules)
    flat = [one for texts in made for one in texts]
    assert [one.tokens for one in flat] == expected
    torch.testing.assert_close(torch.tensor([one.score for one in flat]), scores, atol=1e-4, rtol=1e-4)
    for one in flat:
        assert one.score == pytest.approx(sum(one.log_probs) / len(one.tokens) ** length_penalty, abs=1e-4)


def test_patience_and_length_penalty_matter_here(gpt2):
    made = {
        (patience, penalty): [
            one.tokens
            for texts in beam_search(
                gpt2[0], PROMPTS, Beam(beams=2, length_penalty=penalty, patience=patience), STOP
            )
            for one in texts
        ]
        for patience in Patience
        for penalty in (-1.0, 0.0, 2.0)
    }
    assert len({str(texts) for texts in made.values()}) >= 4
    assert len({len(text) for texts in made.values() for text in texts}) >= 4


def test_gpt_says_what_transformers_says(gpt):
    """Its class there knows neither padding on the left nor a cache, so prompts are equally long."""
    ours, theirs = gpt
    rows = [row[:3] for row in ROWS if len(row) >= 3]
    prompts = TokenBatch.from_sequences(rows)
    expected, _ = said_by_transformers(theirs, rows, use_cache=False)
    assert [one.tokens for one in generate(ours, prompts, Greedy(), STOP)] == expected
    expected, _ = said_by_transformers(theirs, rows, use_cache=False, num_beams=3)
    assert [texts[0].tokens for texts in beam_search(ours, prompts, Beam(beams=3), STOP)] == expected


def test_forced_tokens_are_those_of_transformers(gpt2):
    """A first token only forced for prompts of one token there: it looks at the whole length."""
    ours, theirs = gpt2
    rows = [row[:1] for row in ROWS]
    rules = (Forced(0, 7), Forced(NEW - 1, END))
    options = {"forced_bos_token_id": 7, "forced_eos_token_id": END, "num_beams": 3}
    expected, _ = said_by_transformers(theirs, rows, **options)
    made = beam_search(ours, TokenBatch.from_sequences(rows), Beam(beams=3), STOP, rules=rules)
    assert [texts[0].tokens for texts in made] == expected
    assert all(texts[0].tokens[0] == 7 for texts in made)


def test_together_is_alone(gpt2):
    model = gpt2[0]
    sampling = Sampling(temperature=1.5, top_k=9, seed=4)
    drawn = generate(model, PROMPTS, sampling, STOP, requests=range(40, 45))
    beams = beam_search(model, PROMPTS, Beam(beams=3, best=3), STOP)
    for number, row in enumerate(ROWS):
        alone = TokenBatch.from_sequences([row])
        assert (
            generate(model, alone, sampling, STOP, requests=[40 + number])[0].tokens == drawn[number].tokens
        )
        (own,) = beam_search(model, alone, Beam(beams=3, best=3), STOP)
        assert [one.tokens for one in own] == [one.tokens for one in beams[number]]


# --- rules ---


def test_rules_are_transformers_processors():
    noise = torch.Generator().manual_seed(0)
    said_BL = torch.randint(6, (8, 14), generator=noise)
    scores_BV = torch.randn(8, 10, generator=noise)
    pairs = [
        (NoRepeatedNgram(1), processors.NoRepeatNGramLogitsProcessor(1)),
        (NoRepeatedNgram(3), processors.NoRepeatNGramLogitsProcessor(3)),
        (FewestNewTokens(5, (2, 3)), processors.MinNewTokensLengthLogitsProcessor(10, 5, [2, 3])),
        (FewestNewTokens(4, (2, 3)), processors.MinNewTokensLengthLogitsProcessor(10, 4, [2, 3])),
        (RepetitionPenalty(1.3), processors.RepetitionPenaltyLogitsProcessor(1.3)),
        (Forced(4, 3), processors.ForcedEOSTokenLogitsProcessor(15, 3)),
    ]
    changed = 0
    for rule, processor in pairs:
        before = scores_BV.clone()
        ours = rule.apply(scores_BV, said_BL, 4)
        assert torch.equal(scores_BV, before)
        assert torch.equal(ours, processor(said_BL, scores_BV.clone()))
        changed += not torch.equal(ours, scores_BV)
    assert changed == 5  # all but the fewest tokens that are there already


@pytest.mark.parametrize(
    "rule", [NoRepeatedNgram(1), NoRepeatedNgram(2), NoRepeatedNgram(5), RepetitionPenalty(2.0)]
)
def test_shorter_rows_are_ruled_as_if_alone(rule):
    context_BL = context_of(PROMPTS)
    assert context_BL[2].tolist() == [-1] * 4 + ROWS[2].tolist()
    scores_BV = torch.randn(len(ROWS), VOCAB, generator=torch.Generator().manual_seed(0))
    together = rule.apply(scores_BV, context_BL, 0)
    for number, row in enumerate(ROWS):
        alone = rule.apply(scores_BV[number : number + 1], torch.from_numpy(row)[None], 0)
        assert torch.equal(together[number : number + 1], alone)


# --- sampling ---


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("top_k", [None, 1, 5, 400, 5000])
@pytest.mark.parametrize("top_p", [None, 0.3, 0.9, 0.999, 1.0])
def test_what_remains_is_what_remains_in_transformers(temperature, top_k, top_p):
    noise = torch.Generator().manual_seed(3)
    scores_BV = torch.randn(6, 2000, generator=noise) * torch.tensor([0.0, 0.1, 1, 3, 6, 20])[:, None]
    scores_BV[0] += torch.arange(2000) * 1e-3  # nearly flat, without ties, whose order is nobody's
    scores_BV[3] = scores_BV[3].round()  # ties at the border of the top k
    if top_p not in (None, 1.0):
        scores_BV[3] += torch.arange(2000) * 1e-4
    expected = scores_BV / temperature
    if top_k is not None:
        expected = processors.TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None and top_p < 1:
        expected = processors.TopPLogitsWarper(top_p)(None, expected)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    scores_BM, ids_BM = sampling.remaining(scores_BV)
    ours = torch.full_like(expected, -torch.inf).scatter(1, ids_BM, scores_BM)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=2.0, top_k=12), Sampling(temperature=1.4, top_p=0.8)]
)
def test_draws_have_the_probabilities_of_what_remains(sampling):
    draws = 20_000
    scores_V = torch.randn(30, generator=torch.Generator().manual_seed(5)) * 0.8
    scores_BM, ids_BM = sampling.remaining(scores_V[None])
    share_V = torch.zeros(30).scatter(0, ids_BM[0], torch.softmax(scores_BM[0], -1))
    for requests, number in ((np.arange(draws, dtype=np.uint64), 3), (np.full(draws, 9, np.uint64), None)):
        if number is None:  # one request, token after token
            tokens = [sampling.choose(scores_V[None], requests[:1], n) for n in range(draws // 10)]
            counts = torch.cat(tokens).bincount(minlength=30)
        else:
            counts = sampling.choose(scores_V.expand(draws, -1), requests, number).bincount(minlength=30)
        assert (counts[share_V == 0] == 0).all()
        likely = share_V > 0.004
        assert likely.sum() > 5
        rest = float(counts[~likely].sum())
        observed, expected = counts[likely].tolist(), share_V[likely].tolist()
        if (more := float(share_V[~likely].sum())) > 0.004:
            observed, expected = [*observed, rest], [*expected, more]
        assert plausible_counts(observed, expected)


def test_a_draw_depends_on_seed_request_and_place_alone(gpt2):
    model, sampling = gpt2[0], Sampling(temperature=2.0, seed=1)
    first = generate(model, PROMPTS, sampling, STOP, requests=[5, 6, 7, 8, 9])
    before = torch.get_rng_state()
    torch.manual_seed(77)
    turned = TokenBatch.from_sequences(ROWS[::-1])
    again = generate(model, turned, sampling, STOP, requests=[9, 8, 7, 6, 5])[::-1]
    assert [one.tokens for one in again] == [one.tokens for one in first]
    assert not torch.equal(torch.get_rng_state(), before)
    same = TokenBatch.from_sequences([ROWS[0]] * 20)
    texts = generate(model, same, sampling, STOP)
    assert len({str(one.tokens) for one in texts}) > 15
    for other in (replace(sampling, seed=2), Greedy()):
        assert generate(model, PROMPTS, other, STOP) != first


def test_a_draw_never_takes_what_was_cut_even_at_the_last_number_below_one(monkeypatch):
    scores_BV = torch.tensor([[0.0, -torch.inf, 1.0, -torch.inf], [-torch.inf, 0.0, -torch.inf, -torch.inf]])
    for bits, expected in ((2**64 - 1, [2, 1]), (0, [0, 1])):
        monkeypatch.setattr(
            "training.generation.sampling.Stream.bits", lambda self, _, b=bits: np.full(2, b, np.uint64)
        )
        assert Sampling().choose(scores_BV, np.zeros(2, np.uint64), 0).tolist() == expected


# --- the end ---


def test_a_text_ends_with_its_stop_sequence(gpt2):
    model = gpt2[0]
    whole = [one.tokens for one in generate(model, PROMPTS, Greedy(), Stop(new_tokens=NEW))]
    sequence = tuple(whole[0][3:5])
    stop = Stop(new_tokens=NEW, sequences=(sequence,))
    made = generate(model, PROMPTS, Greedy(), stop)
    for one, full in zip(made, whole, strict=True):
        ends = [n + 2 for n in range(NEW - 1) if tuple(full[n : n + 2]) == sequence]
        assert one.tokens == full[: ends[0] if ends else NEW]
        assert one.why is (Why.STOP if ends else Why.LENGTH)
    assert made[0].why is Why.STOP
    for texts in beam_search(model, PROMPTS, Beam(beams=3, best=3), stop):
        for one in texts:
            found = [n + 2 for n in range(len(one.tokens) - 1) if tuple(one.tokens[n : n + 2]) == sequence]
            assert found == ([len(one.tokens)] if one.why is Why.STOP else [])


def test_a_text_ends_with_its_stop_word_however_it_is_cut_into_tokens(gpt2):
    model, endless = gpt2[0], Stop(new_tokens=NEW)
    pieces = [b"", *(bytes([97 + n % 5]) * (1 + n % 3) for n in range(1, VOCAB))]
    whole = [
        "".join(pieces[t].decode() for t in one.tokens) for one in generate(model, PROMPTS, Greedy(), endless)
    ]
    words = StopWords(words=(whole[1][2:5], "zz"), pieces=pieces)
    made = generate(model, PROMPTS, Greedy(), replace(endless, words=words))
    assert made[1].why is Why.STOP
    for one, full in zip(made, whole, strict=True):
        text = "".join(pieces[token].decode() for token in one.tokens)
        before = "".join(pieces[token].decode() for token in one.tokens[:-1])
        assert full.startswith(text)
        assert words.words[0] not in before
        assert (words.words[0] in text) == (one.why is Why.STOP)


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [([1, 2], True), ([1], False), ([3], True), ([2, 1, 0, 2], True), ([3, 1], False), ([2, 2], False)],
)
def test_stop_words_are_found_in_the_text_and_only_with_the_last_token(tokens, ends):
    words = StopWords(words=("stop",), pieces=[b"", b"ast", b"opp", b"a stop in it"])
    assert words.end(tokens) is ends


def test_a_stream_is_the_texts_token_by_token(gpt2):
    model = gpt2[0]
    texts = generate(model, PROMPTS, Greedy(), STOP)
    steps = list(stream(model, PROMPTS, Greedy(), STOP))
    for number, one in enumerate(texts):
        said = [token for step in steps for token in step if token.prompt == number]
        assert [token.token for token in said] == one.tokens
        assert [token.why for token in said] == [None] * (len(said) - 1) + [one.why]
        batch = TokenBatch.from_sequences([np.array([*ROWS[number], *one.tokens])])
        places = torch.arange(len(ROWS[number]) - 1, batch.num_tokens - 1)
        with torch.no_grad():
            log_probs = torch.log_softmax(model.logits(batch, places), -1)
        expected = log_probs.gather(1, torch.tensor(one.tokens)[:, None]).squeeze(1)
        torch.testing.assert_close(torch.tensor(one.log_probs), expected, atol=1e-4, rtol=1e-4)
        assert one.score == pytest.approx(sum(one.log_probs))


# --- bad input ---


def test_bad_input_gets_one_sentence(gpt2):
    model = gpt2[0]
    longest = max(map(len, ROWS))
    generate(model, PROMPTS, Greedy(), Stop(new_tokens=2))
    with pytest.raises(
        ValueError, match="a sequence of 9 tokens and 72 more to read: this model holds at most 80"
    ):
        generate(model, PROMPTS, Greedy(), Stop(new_tokens=80 - longest + 2))
    with pytest.raises(ValueError, match="3 requests for 5 prompts"):
        generate(model, PROMPTS, Greedy(), STOP, requests=[1, 2, 3])
    model.train()
    try:
        with pytest.raises(ValueError, match=r"training mode.*call model\.eval"):
            beam_search(model, PROMPTS, Beam(), STOP)
    finally:
        model.eval()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sampling(temperature=0.0), "temperature is 0.0; .*use Greedy"),
        (lambda: Sampling(top_k=0), "top_k is 0; give 1 or more"),
        (lambda: Sampling(top_p=1.5), "top_p is 1.5; .*up to 1"),
        (lambda: Beam(beams=0), "beams is 0; give 1 or more"),
        (lambda: Beam(beams=2, best=3), "best is 3; there are 2 beams"),
        (lambda: Stop(new_tokens=0), "new_tokens is 0; give 1 or more"),
        (lambda: Stop(new_tokens=1, sequences=((),)), "one without tokens"),
        (lambda: StopWords(words=("",), pieces=[]), "each must have a character"),
        (lambda: NoRepeatedNgram(0), "size is 0"),
        (lambda: RepetitionPenalty(0.0), "penalty is 0.0"),
    ],
)
def test_bad_options_get_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
