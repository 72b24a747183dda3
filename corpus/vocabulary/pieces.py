"""What each token of a vocabulary adds to a text, as bytes: how generated tokens become text again, one at a time.

    WordPiece    "cat" -> " cat", "##s" -> "s"       what stood between the words of the original is not known
    byte BPE     "Ġcat" -> " cat"                    exact, bytes of characters may come one by one
    Unigram      "▁cat" -> " cat"
    characters   "c" -> "c"

Special tokens add nothing.
"""

from functools import singledispatch

from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.byte_files import BYTE_ALPHABET
from corpus.vocabulary.columns import Encoder
from corpus.vocabulary.unigram import UnigramEncoder
from corpus.wordpiece.encode import Encoder as WordPieceEncoder


def pieces_of(encoder: Encoder) -> list[bytes]:
    """(V,) what each token adds."""
    found = _pieces(encoder)
    for token in special_ids(encoder):
        found[token] = b""
    return found


def special_ids(encoder: Encoder) -> set[int]:
    ids = {encoder.pad_id, encoder.unk_id, encoder.cls_id, encoder.sep_id}
    try:
        return ids | {encoder.mask_id}
    except ValueError:  # GPT-2's vocabularies have none
        return ids


def text_of(pieces: list[bytes], tokens: list[int]) -> str:
    """The text of some tokens; what is no whole character yet shows as U+FFFD."""
    return b"".join(pieces[token] for token in tokens).decode("utf-8", "replace")


@singledispatch
def _pieces(encoder: Encoder) -> list[bytes]:
    return [entry.encode() for entry in encoder.vocabulary]


@_pieces.register
def _word_pieces(encoder: WordPieceEncoder) -> list[bytes]:
    return [
        (entry.removeprefix("##") if entry.startswith("##") else f" {entry}").encode()
        for entry in encoder.vocabulary
    ]


@_pieces.register
def _unigram(encoder: UnigramEncoder) -> list[bytes]:
    return [entry.replace("▁", " ").encode() for entry in encoder.vocabulary]


@_pieces.register
def _byte_pairs(encoder: ByteBPEEncoder) -> list[bytes]:
    byte_of = {character: number for number, character in enumerate(BYTE_ALPHABET)}
    return [bytes(byte_of.get(c, ord("?")) for c in entry) for entry in encoder.vocabulary]
