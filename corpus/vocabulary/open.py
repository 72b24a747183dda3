"""The encoder of a finished vocabulary, whichever it is: its own tokenizer.json says."""

import json
from typing import TYPE_CHECKING, Any

from corpus.vocabulary.byte_bpe import ByteBPEEncoder
from corpus.vocabulary.characters import ANY_CHARACTER, CharacterEncoder
from corpus.vocabulary.columns import Encoder
from corpus.vocabulary.released_unigram import unigram_encoder
from corpus.vocabulary.sequences import KmerEncoder, LetterEncoder
from corpus.vocabulary.word_level import WordLevelEncoder
from corpus.wordpiece.encode import Encoder as WordPieceEncoder
from corpus.wordpiece.files import TOKENIZER_FILE

if TYPE_CHECKING:
    from infra.artifacts import Artifact


def encoder_of(vocabulary: "Artifact") -> Encoder:
    """The encoder of any training step's artifact. Raises ValueError for a tokenizer that is none of ours."""
    described = json.loads(vocabulary.read(TOKENIZER_FILE))
    model = described["model"]["type"]
    if model == "WordPiece":
        return WordPieceEncoder.from_artifact(vocabulary)
    if model == "BPE":
        return ByteBPEEncoder.from_description(described)
    if model == "Unigram":
        return unigram_encoder(described)
    if model == "WordLevel":
        return word_level_encoder(described)
    raise ValueError(
        f"{vocabulary.short} has a {model} model; cloze encodes WordPiece, byte-level BPE, Unigram, characters and k-mers"
    )


def word_level_encoder(described: dict[str, Any]) -> WordLevelEncoder:
    """Characters, letters or k-mers, by how the tokenizer.json splits. Raises ValueError if it is none of them."""
    ids = described["model"]["vocab"]
    vocabulary = sorted(ids, key=ids.__getitem__)
    splitting = described.get("pre_tokenizer") or {}
    made: WordLevelEncoder
    if splitting.get("type") == "WhitespaceSplit":
        made = KmerEncoder.from_vocabulary(vocabulary, overlapping=True)
    elif splitting.get("pattern") != {"Regex": ANY_CHARACTER}:
        made = KmerEncoder.from_vocabulary(vocabulary, overlapping=False)
    elif described.get("normalizer") is None:
        made = CharacterEncoder(vocabulary)
    else:
        made = LetterEncoder(vocabulary)
    ours = json.loads(made.library.to_str())
    for name in ("normalizer", "pre_tokenizer"):
        if ours[name] != described.get(name):
            raise ValueError(
                f"tokenizer.json has {name} {described.get(name)!r}; a {type(made).__name__} has {ours[name]!r}"
            )
    return made


_encoders: dict[str, Encoder] = {}


def shared_encoder_of(vocabulary: "Artifact") -> Encoder:
    """This process's encoder, so that a partition finds the words that earlier ones have met (twice as fast)."""
    content = vocabulary.manifest.content
    if content not in _encoders:
        _encoders.clear()
        _encoders[content] = encoder_of(vocabulary)
    return _encoders[content]
