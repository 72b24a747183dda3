"""Sequences without words (DNA, RNA, protein): a letter is a token, or k letters are.

    letters                      A C G T A          one token a letter
    overlapping k-mers (k=3)     ACG CGT GTA        DNABERT (Ji et al. 2021): stride 1, 5 special tokens + 4**k entries
    k-mers side by side          ACG T A            the rest of a run is spelled in letters, as is what an N cuts off

Blanks and line ends (FASTA) are no part of a sequence, and small letters (soft-masked repeats) are read as capitals. A
letter outside the alphabet is [UNK], and so is an overlapping k-mer with such a letter. A sequence shorter than k has no
overlapping k-mer. Every token is a word of its own.

`tokenizers` cannot make overlapping pieces: the tokenizer.json of overlapping k-mers reads DNABERT's own form of text,
in which k-mers are separated by blanks.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex
from tokenizers import normalizers as norm
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer, Split, WhitespaceSplit

from corpus.vocabulary.characters import ANY_CHARACTER
from corpus.vocabulary.word_level import Found, WordLevelEncoder
from corpus.wordpiece.files import SPECIAL_TOKENS
from corpus.wordpiece.interning import Int64s
from corpus.wordpiece.units import UInt8s

if TYPE_CHECKING:
    from infra.artifacts import Counts
    from infra.output import Output

DNA: Final = "ATCG"  # in the order of DNABERT's vocabularies
PROTEIN: Final = "ACDEFGHIKLMNPQRSTVWYBUXZO"  # the twenty amino acids, then the rare and the ambiguous ones
MOST_KMERS: Final = 1 << 24
_BLANKS: Final = b" \t\r\n"


def _check_letters(letters: str) -> None:
    if not re.fullmatch("[A-Z]+", letters) or len(set(letters)) < len(letters):
        raise ValueError(
            f"letters={letters!r} must be different capitals from A to Z; use sequences.DNA or PROTEIN"
        )


@dataclass(frozen=True, kw_only=True)
class LettersConfig:
    """One token a letter."""

    letters: str = PROTEIN

    def __post_init__(self) -> None:
        _check_letters(self.letters)

    def encoder(self) -> "LetterEncoder":
        return LetterEncoder([*SPECIAL_TOKENS, *self.letters])


@dataclass(frozen=True, kw_only=True)
class KmersConfig:
    """k letters a token: overlapping with stride 1, or side by side."""

    k: int = 6
    overlapping: bool = True
    letters: str = DNA

    def __post_init__(self) -> None:
        _check_letters(self.letters)
        if self.k < 2 or len(self.letters) ** self.k > MOST_KMERS:
            raise ValueError(
                f"k={self.k} makes {len(self.letters)}**{self.k} entries; use k of at least 2 and at most "
                f"{MOST_KMERS} entries (DNABERT: 3 to 6)"
            )

    def encoder(self) -> "KmerEncoder":
        kmers = map("".join, product(self.letters, repeat=self.k))
        rest = () if self.overlapping else self.letters
        return KmerEncoder(
            [*SPECIAL_TOKENS, *kmers, *rest], self.letters, self.k, overlapping=self.overlapping
        )


def make_sequence_vocabulary(config: LettersConfig | KmersConfig, *, out: "Output") -> "Counts":
    """Write the vocabulary that a config determines: vocab.txt, tokenizer.json, tokenizer_config.json."""
    encoder = config.encoder()
    for name, content in encoder.files().items():
        out.write(name, content)
    return {"vocab_size": encoder.vocab_size}


def _clean(letters: str) -> Normalizer:
    """Blanks out, small letters of the alphabet to capitals."""
    capitals = [norm.Replace(letter.lower(), letter) for letter in letters]
    return norm.Sequence([norm.Replace(Regex(r"[ \t\r\n]"), ""), *capitals])


class _SequenceEncoder(WordLevelEncoder):
    """Letters as numbers: 0 ... len(letters) - 1 in the alphabet, len(letters) outside of it, 255 no letter at all."""

    def __init__(self, vocabulary: Sequence[str], letters: str) -> None:
        super().__init__(vocabulary)
        self.letters = letters
        table = np.full(256, len(letters), np.uint8)
        table[0x80:0xC0] = 255  # a character of several bytes is one letter
        table[list(_BLANKS)] = 255
        for number, letter in enumerate(letters):
            table[[ord(letter), ord(letter.lower())]] = number
        self._table = table.tobytes()

    def _read(self, data: UInt8s, offsets: Int64s) -> tuple[UInt8s, Int64s, Int64s]:
        """(L,) numbers of the letters, the byte of each, and the (B + 1,) letters at which texts begin."""
        numbers = np.frombuffer(data.tobytes().translate(self._table), np.uint8)
        places = np.flatnonzero(numbers != 255)
        return numbers[places], places, np.searchsorted(places, offsets)


class LetterEncoder(_SequenceEncoder):
    """One token a letter."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__(vocabulary, "".join(vocabulary[len(SPECIAL_TOKENS) :]))
        self._id_of = np.array([*(self._ids[letter] for letter in self.letters), self.unk_id])

    def splitting(self) -> tuple[Normalizer | None, PreTokenizer]:
        return _clean(self.letters), Split(Regex(ANY_CHARACTER), "isolated")

    def _find(self, data: UInt8s, offsets: Int64s) -> Found:
        numbers, places, _ = self._read(data, offsets)
        return Found(self._id_of[numbers], places, np.ones(len(places), np.bool_))


class KmerEncoder(_SequenceEncoder):
    """k letters a token."""

    def __init__(self, vocabulary: Sequence[str], letters: str, k: int, *, overlapping: bool) -> None:
        super().__init__(vocabulary, letters)
        self.k, self.overlapping = k, overlapping
        self._id_of = np.array([*(self._ids.get(letter, self.unk_id) for letter in letters), self.unk_id])

    @classmethod
    def from_vocabulary(cls, vocabulary: Sequence[str], *, overlapping: bool) -> "KmerEncoder":
        """The alphabet and k are read off the entries. Raises ValueError unless they are all k-mers of one alphabet."""
        entries = vocabulary[len(SPECIAL_TOKENS) :]
        letters = "".join(dict.fromkeys("".join(entries)))
        k = len(entries[0]) if entries else 0
        config = KmersConfig(k=k, overlapping=overlapping, letters=letters)
        made = config.encoder()
        if made.vocabulary != tuple(vocabulary):
            raise ValueError(
                f"the vocabulary is not all {k}-mers of {letters!r} in order; make it with make_sequence_vocabulary"
            )
        return made

    def splitting(self) -> tuple[Normalizer | None, PreTokenizer]:
        if self.overlapping:
            return None, WhitespaceSplit()
        return _clean(self.letters), Split(Regex(f"[{self.letters}]{{{self.k}}}|{ANY_CHARACTER}"), "isolated")

    def _find(self, data: UInt8s, offsets: Int64s) -> Found:
        numbers, places, edges = self._read(data, offsets)
        begun, left = self._runs(numbers, edges)
        kmers = self._kmers(numbers)
        if self.overlapping:
            text_end = np.repeat(edges[1:], np.diff(edges))
            chosen = np.flatnonzero(np.arange(len(numbers)) + self.k <= text_end)
            tokens = np.where(left[chosen] >= self.k, kmers[chosen], self.unk_id)
        else:
            alone = begun >= (begun + left) // self.k * self.k  # behind the last k-mer of its run
            chosen = np.flatnonzero(alone | (begun % self.k == 0))
            tokens = np.where(alone[chosen], self._id_of[numbers[chosen]], kmers[chosen])
        return Found(tokens, places[chosen], np.ones(len(chosen), np.bool_))

    def _runs(self, numbers: UInt8s, edges: Int64s) -> tuple[Int64s, Int64s]:
        """(L,) how many letters of its run lie before each letter, and how many from it on; a run is of one text and of
        letters of the alphabet. A letter that is not has 0 and 0."""
        places = np.arange(len(numbers))
        foreign = np.flatnonzero(numbers == len(self.letters))
        index = np.searchsorted(foreign, places)
        bounds = np.concatenate([[-1], foreign, [len(numbers)]])
        sizes = np.diff(edges)
        begin = np.maximum(np.repeat(edges[:-1], sizes), bounds[index] + 1)
        end = np.minimum(np.repeat(edges[1:], sizes), bounds[index + 1])
        is_foreign = bounds[index + 1] == places
        return np.where(is_foreign, 0, places - begin), np.where(is_foreign, 0, end - places)

    def _kmers(self, numbers: UInt8s) -> NDArray[np.int64]:
        """(L,) the entry of the k letters that begin at each letter, if they are of the alphabet."""
        padded = np.append(numbers, np.zeros(self.k, np.uint8)).astype(np.int64)
        value = np.zeros(len(numbers), np.int64)
        for place in range(self.k):
            value = value * len(self.letters) + padded[place : place + len(numbers)]
        return value + len(SPECIAL_TOKENS)
