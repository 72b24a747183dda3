"""Where words begin in scripts that write no spaces, as byte offsets of a column and then as a bit for each token.

    text      "我们在 Paris 吃了ラーメン。"            the tokenizer's rule is right for "Paris" and "。"
    runs       [    ]       [           ]          stretches of Han, Kana, Thai, Lao, Khmer or Burmese, with their marks
    words      我们|在      吃|了|ラーメン            a segmenter's (corpus/segmenters/), each distinct run once

Han and Kana are one run and Sudachi's in a Japanese document; elsewhere Han is jieba's and Kana by itself Sudachi's. A
document is Japanese by its language, or, where that is neither Japanese nor Chinese, if a tenth of its Han and Kana
is Kana. A word begins at a character that can begin one: never at a mark, behind a joiner or inside a grapheme.

Text without such runs costs one pass over its bytes (800 MB per CPU-second of English); Chinese 6 to 8 MB, Japanese 2,
Thai and Khmer 7. A run that is met again in the column costs nothing; a column of Chinese takes ten times its bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from corpus.columns import mark, utf8
from corpus.ragged import ranges
from corpus.segmenters.characters import (
    HAN,
    KANA,
    MARK,
    OTHER,
    SOUTHEAST,
    Bools,
    Int64s,
    UInt8s,
    classes_at,
    first_bytes,
    may_begin,
    sizes_at,
)

JAPANESE = ("ja",)
CHINESE = ("zh", "lzh", "yue", "wuu", "nan", "hak", "cmn", "gan", "hsn", "cdo")
# Of Han and Kana: 99 % of Japanese Wikipedia documents have over 0.37, 99.8 % of the Chinese under 0.1.
KANA_SHARE = 0.1
MAX_RUN_BYTES = 12_288  # a longer run is cut: Sudachi refuses 49 KB, and memory stays bounded

_BLOCK_BYTES = 1 << 20  # of text at a time, the temporaries are some 20 bytes a byte of Chinese
_JOINT = MARK + 1  # the class of a run of Han and Kana in a Japanese document


@dataclass(frozen=True, slots=True)
class Runs:
    """Stretches of text that a segmenter has to read: (R,) first bytes, ends and classes, in order, none overlapping."""

    begins: Int64s
    ends: Int64s
    classes: UInt8s

    def __len__(self) -> int:
        return len(self.begins)

    def where(self, chosen: Bools) -> "Runs":
        return Runs(self.begins[chosen], self.ends[chosen], self.classes[chosen])


def unspaced_runs(texts: pa.LargeStringArray, languages: pa.StringArray | None = None) -> Runs:
    """The runs of (n,) texts, in bytes counted through the concatenated UTF-8 of the column.

    `languages` are BCP 47 tags; null, "und" or no array: by what is written. Raises ValueError if they are not n.
    """
    offsets, data = utf8(texts)
    found = [_runs_between(data, offsets, begin, end) for begin, end in _blocks(data)]
    columns = zip(*((r.begins, r.ends, r.classes) for r in found), strict=True)
    runs = Runs(*map(np.concatenate, columns)) if found else Runs(*np.zeros((3, 0), np.int64))
    japanese = _japanese(runs, data, offsets, languages)
    document = np.searchsorted(offsets, runs.begins, "right") - 1
    classes = np.where(japanese[document] & (runs.classes <= KANA), _JOINT, runs.classes).astype(np.uint8)
    first = np.ones(len(runs), np.bool_)  # others continue a run: Kana behind Han, or cut by a block
    first[1:] = (
        (runs.begins[1:] != runs.ends[:-1]) | (classes[1:] != classes[:-1]) | (document[1:] != document[:-1])
    )
    last = np.append(first[1:], True)[: len(runs)]
    return Runs(runs.begins[first], runs.ends[last], classes[first])


def word_starts(
    texts: pa.LargeStringArray, languages: pa.StringArray | None = None, runs: Runs | None = None
) -> Int64s:
    """Sorted byte offsets at which words begin inside the runs; each run begins with a word.

    `runs` are `unspaced_runs(texts, languages)`, if they are already known.
    """
    if runs is None:
        runs = unspaced_runs(texts, languages)
    _, data = utf8(texts)
    pieces = _pieces(runs, data)
    parts = [np.zeros(0, np.int64)]
    for classes, segment in _segmenters():
        chosen = pieces.where(np.isin(pieces.classes, classes))
        if len(chosen):
            parts.append(_starts_in(chosen, data, segment))
    return np.sort(np.concatenate(parts), kind="stable")


def apply_word_starts(token_starts_T: Int64s, word_start_T: Bools, starts: Int64s, runs: Runs) -> Bools:
    """(T,) bool: the tokenizer's `word_start_T`, and inside the runs the segmenter's.

    token_starts_T is the byte at which each token begins, ascending; -1 (no place in the text) is left as it is. A token
    in a run begins a word only if a word begins at its first byte. One that straddles the beginning of a word does not:
    it ties the two together, so that hiding "whole words" never hides half of one and shows the rest. A token that
    begins where a run ends ("T" in "シャツT") begins a word; of several tokens of one character only the first can.
    """
    if len(token_starts_T) != len(word_start_T):
        raise ValueError(
            f"{len(token_starts_T)} token starts for {len(word_start_T)} word starts; give one of each per token"
        )
    if not len(runs):
        return word_start_T
    run = np.searchsorted(runs.begins, token_starts_T, "right") - 1
    after = np.where(run < 0, -1, runs.ends[run])  # end of the last run that begins at or before the token
    inside, behind = token_starts_T < after, (token_starts_T == after) & (token_starts_T >= 0)
    nearest = np.append(starts, -1)[np.searchsorted(starts, token_starts_T)]
    first = np.ones(len(token_starts_T), np.bool_)
    first[1:] = token_starts_T[1:] != token_starts_T[:-1]
    begins = first & (behind | (nearest == token_starts_T))
    return np.where((inside | behind) & (token_starts_T >= 0), begins, word_start_T)


def _segmenters() -> list[tuple[tuple[int, ...], Callable[[pa.LargeStringArray], Int64s]]]:
    """Which classes of runs each segmenter reads."""
    from corpus.segmenters.chinese import chinese_words
    from corpus.segmenters.japanese import japanese_words
    from corpus.segmenters.southeast_asian import southeast_asian_words

    return [
        ((HAN,), chinese_words),
        ((KANA, _JOINT), japanese_words),
        ((SOUTHEAST,), southeast_asian_words),
    ]


def _blocks(data: UInt8s) -> Iterator[tuple[int, int]]:
    """Cut text where a character begins that is no mark, so that each mark is in the block of what it belongs to."""
    begin = 0
    while begin < len(data):
        end = min(begin + _BLOCK_BYTES, len(data))
        while end < len(data) and (data[end] & 0xC0 == 0x80 or classes_at(data, np.array([end]))[0] == MARK):
            end += 1
        yield begin, end
        begin = end


def _runs_between(data: UInt8s, offsets: Int64s, begin: int, end: int) -> Runs:
    """Runs of one class in data[begin:end], also cut where a document begins."""
    leads, pairs = first_bytes()
    at = np.flatnonzero(mark(data[begin:end], leads)) + begin
    # Hindi has the first byte of Thai, Georgian of Burmese, Korean of a Burmese extension, Latin quotes of joiners.
    at = at[pairs[data[at].astype(np.int64) << 8 | data.take(at + 1, mode="clip")]]
    classes, sizes = classes_at(data, at), sizes_at(data, at)
    ends = at + sizes
    fresh = np.ones(len(at), np.bool_)  # does not follow the one before at once, in the same document
    fresh[1:] = at[1:] != ends[:-1]
    documents = offsets[slice(*np.searchsorted(offsets, (begin, end)))]
    place = np.searchsorted(at, documents)
    fresh[place[place < len(at)]] = True
    stretch = np.cumsum(fresh)
    base = np.maximum.accumulate(np.where(classes == MARK, 0, np.arange(len(at))))
    of_base = np.where(stretch[base] == stretch, classes[base], OTHER)
    classes = np.where(classes == MARK, np.where(of_base == MARK, OTHER, of_base), classes).astype(np.uint8)
    kept = classes != OTHER
    at, ends, classes, first = at[kept], ends[kept], classes[kept], fresh[kept]
    first[:1] = True
    first[1:] |= (at[1:] != ends[:-1]) | (classes[1:] != classes[:-1])
    last = np.append(first[1:], True)[: len(at)]
    return Runs(at[first], ends[last], classes[first])


def _japanese(runs: Runs, data: UInt8s, offsets: Int64s, languages: pa.StringArray | None) -> Bools:
    """(n,) which documents are Japanese. The share of Kana is taken in bytes: nearly all of both have three."""
    sizes = np.diff(offsets)
    if languages is not None and len(languages) != len(sizes):
        raise ValueError(
            f"{len(languages)} languages for {len(sizes)} texts; give one language for each text"
        )
    document = np.searchsorted(offsets, runs.begins, "right") - 1
    kana, han = (
        np.bincount(document[chosen], (runs.ends - runs.begins)[chosen], len(sizes))
        for chosen in (runs.classes == KANA, runs.classes == HAN)
    )
    written = kana > KANA_SHARE * (kana + han)
    if languages is None:
        return written
    tags = np.array([(tag or "und").split("-")[0] for tag in languages.to_pylist()])
    return np.isin(tags, JAPANESE) | (written & ~np.isin(tags, CHINESE))


def _pieces(runs: Runs, data: UInt8s) -> Runs:
    """Runs of at most MAX_RUN_BYTES: longer ones are cut where a word may begin."""
    long = np.flatnonzero(runs.ends - runs.begins > MAX_RUN_BYTES)
    cuts, whose = [], []
    for run in long.tolist():
        at = int(runs.begins[run]) + MAX_RUN_BYTES
        while at < runs.ends[run]:
            near = np.arange(at, at - MAX_RUN_BYTES // 2, -1)
            good = np.flatnonzero(may_begin(data, near))
            at = int(near[good[0]]) if len(good) else at
            cuts.append(at)
            whose.append(run)
            at += MAX_RUN_BYTES
    begins = np.concatenate([runs.begins, np.array(cuts, np.int64)])
    ends = np.concatenate([runs.ends, np.array(cuts, np.int64)])
    classes = np.concatenate([runs.classes, runs.classes[np.array(whose, np.int64)]])
    order = np.argsort(begins, kind="stable")
    return Runs(begins[order], np.sort(ends), classes[order])


def _starts_in(runs: Runs, data: UInt8s, segment: Callable[[pa.LargeStringArray], Int64s]) -> Int64s:
    """Where words begin in the runs, each distinct run segmented once."""
    edges = np.stack([runs.begins, runs.ends], 1).reshape(-1)  # run, what is between runs, run ...
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(data)]
    stretches = pa.LargeStringArray.from_buffers(len(edges) - 1, buffers[1], buffers[2])
    encoded = stretches.take(pa.array(np.arange(0, len(edges) - 1, 2))).dictionary_encode()
    distinct: pa.LargeStringArray = encoded.dictionary
    begins, bytes_ = utf8(distinct)
    starts = segment(distinct)
    run = np.searchsorted(begins, starts, "right") - 1
    good = may_begin(bytes_, starts) | (starts == begins[run])
    starts, run = starts[good], run[good]
    first = np.searchsorted(starts, begins)
    which = encoded.indices.to_numpy()
    counts = np.diff(first)[which]
    relative = starts - begins[run]
    return relative[ranges(first[which], counts)] + np.repeat(runs.begins, counts)
