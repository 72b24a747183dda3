"""Tokens become the text again that they were made of."""

import pyarrow as pa
import pytest

from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.byte_files import BYTE_ALPHABET, GptTokens, RobertaTokens
from corpus.vocabulary.pieces import pieces_of, text_of
from corpus.wordpiece.encode import Encoder
from corpus.wordpiece.files import SPECIAL_TOKENS

TEXTS = ["the cat sat", "naïve café, 1,000 €", "你好 world 🙂", "tabs\tand\nlines"]


@pytest.mark.parametrize("tokens", [RobertaTokens(), GptTokens()])
@pytest.mark.parametrize("text", TEXTS)
def test_byte_pairs_give_back_every_byte(tokens, text):
    encoder = ByteBPEEncoder([*tokens.names, *BYTE_ALPHABET, "Ġc", "Ġca"], [("Ġ", "c"), ("Ġc", "a")])
    ids = encoder.encode(pa.array([text], pa.large_string())).tokens_T.tolist()
    assert text_of(pieces_of(encoder), ids) == text


def test_a_character_that_is_not_whole_yet_is_marked():
    encoder = ByteBPEEncoder([*RobertaTokens().names, *BYTE_ALPHABET], [])
    ids = encoder.encode(pa.array(["€"], pa.large_string())).tokens_T.tolist()
    assert text_of(pieces_of(encoder), ids[:2]) == "\ufffd"
    assert text_of(pieces_of(encoder), ids) == "€"


def test_word_pieces_are_joined_and_special_tokens_are_silent():
    encoder = Encoder([*SPECIAL_TOKENS, "cat", "##s", "sleep"])
    ids = encoder.encode(pa.array(["cats sleep"], pa.large_string())).tokens_T.tolist()
    assert text_of(pieces_of(encoder), [encoder.cls_id, *ids, encoder.sep_id]) == " cats sleep"
