"""Which documents hold a piece of an evaluation set: shared n-grams, as for GPT-3 (Brown et al. 2020, appendix C).

Words are compared in lower case, without punctuation; a character of a script without spaces is a word. A text of an
evaluation set gives all its n-grams of 13 words, or of 26 characters if it is mostly written without spaces; a shorter
text those of 10 or of 8 words (20 or 16 characters), and what is shorter still is shared by chance and not looked for.
A document that holds one of them is contaminated.

Memory: 8 bytes per n-gram of the evaluation sets and 16 MB for a filter; documents are read in blocks.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.columns import utf8
from corpus.document import write_table
from corpus.evaluation_sets import EvaluationSet, evaluation_texts
from corpus.normalize import normalize
from corpus.quality.words import Block, Ints, block_of
from corpus.ragged import blocks, offsets_of, ranges
from corpus.rolling import U64, prefix, span
from corpus.scripts import code_points, is_unspaced, script_of
from corpus.unicode_categories import major
from infra.artifacts import Artifact, Counts
from infra.output import Output, PartitionOutput, total

SIZES = (8, 10, 13)  # words; one pass over the documents each
CHARACTERS = 2  # characters that are worth a word
BLOCK_BYTES = 1 << 20
PIECE_BYTES = 4 << 20  # longer texts are read in pieces, which share OVERLAP_BYTES so that no n-gram is cut
OVERLAP_BYTES = 1 << 12
_FILTER_BITS = 24


@dataclass(frozen=True, kw_only=True)
class EvaluationSets:
    """The evaluation sets to keep out of a corpus."""

    sets: tuple[EvaluationSet, ...]

    def __post_init__(self) -> None:
        names = [s.name for s in self.sets]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"sets are named {names}; give at least one, each its own name")


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """The n-grams of all evaluation sets: sorted hashes of each, and for all together the sizes and a filter."""

    hashes: dict[str, U64]
    sizes: tuple[int, ...]
    filter: npt.NDArray[np.bool_]


def evaluation_ngrams(config: EvaluationSets, *, out: Output) -> Counts:
    """Write the n-gram hashes of each evaluation set. Counts: texts, too_short (not looked for), ngrams (different)."""
    return total(out.map(set_ngrams, {s.name: s for s in config.sets}))


def set_ngrams(one: EvaluationSet, *, out: PartitionOutput) -> Counts:
    """One evaluation set. Raises ValueError if a file changed, lacks a column or is of another kind."""
    texts = pa.array([normalize(t) for t in evaluation_texts(one)], pa.large_string())
    found: dict[int, list[U64]] = {}
    short = 0
    for block in _blocks(texts):
        counts, sizes = np.diff(block.word_offsets), _sizes(block)
        short += int((sizes == 0).sum())
        for size in np.unique(sizes[sizes > 0]):
            at = ranges(block.word_offsets[:-1][sizes == size], counts[sizes == size] - size + 1)
            found.setdefault(int(size), []).append(_grams(prefix(block.word_hash), at, int(size)))
    hashes = np.unique(
        np.concatenate([h for same in found.values() for h in same] or [np.zeros(0, np.uint64)])
    )
    with out.writer(f"{one.name}.parquet") as path:
        metadata = {"sizes": json.dumps(sorted(found))}
        write_table(path, pa.table({"ngram": hashes}).replace_schema_metadata(metadata))
    return {"texts": len(texts), "too_short": short, "ngrams": len(hashes)}


def read_contamination(artifact: Artifact) -> Contamination:
    """The n-grams of a finished `evaluation_ngrams`."""
    hashes, sizes = {}, set()
    filter = np.zeros(1 << _FILTER_BITS, np.bool_)
    for name in artifact.names():
        table = pq.read_table(artifact.path(name), partitioning=None)
        found = table.column("ngram").to_numpy().astype(np.uint64)
        filter[found >> np.uint64(64 - _FILTER_BITS)] = True
        sizes |= set(json.loads(table.schema.metadata[b"sizes"]))
        hashes[name.removesuffix(".parquet")] = found
    return Contamination(hashes=hashes, sizes=tuple(sorted(sizes)), filter=filter)


def find_contamination(
    contamination: Contamination, texts: pa.LargeStringArray
) -> tuple[dict[str, Ints], dict[int, str]]:
    """(by set (n,) how many of its n-grams are in each text, the first shared one of each text that has any, as words)."""
    counts = {name: np.zeros(len(texts), np.int64) for name in contamination.hashes}
    shared: dict[int, str] = {}
    pieces, text_of = _pieces(texts)
    first = 0
    for block in _blocks(pieces):
        for size in contamination.sizes:
            at, grams = _likely(contamination, block, size)
            text = text_of[first + block.document_at(block.word[at])]
            for name, hashes in contamination.hashes.items():
                place = np.minimum(np.searchsorted(hashes, grams), max(len(hashes) - 1, 0))
                hit = hashes[place] == grams if len(hashes) else np.zeros(len(grams), np.bool_)
                np.add.at(counts[name], text[hit], 1)
                for row, k in zip(*np.unique(text[hit], return_index=True), strict=True):
                    shared.setdefault(int(row), _words(block, at[hit][k], size))
        first += block.documents
    return counts, shared


def _likely(contamination: Contamination, block: Block, size: int) -> tuple[Ints, U64]:
    """(first word, hash) of the n-grams of a block that pass the filter."""
    if size > SIZES[-1] and not is_unspaced(script_of(block.data)[1]).any():
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    last = np.repeat(block.word_offsets[1:], np.diff(block.word_offsets))
    at = np.flatnonzero(np.arange(len(last)) + size <= last)
    grams = _grams(prefix(block.word_hash), at, size)
    likely = contamination.filter[grams >> np.uint64(64 - _FILTER_BITS)]
    return at[likely], grams[likely]


def _grams(hashes: U64, at: Ints, size: int) -> U64:
    """Hashes of the n-grams of `size` words that begin at the words `at`; different sizes never agree."""
    return span(hashes, at, at + size) + np.uint64(size)


def _sizes(block: Block) -> Ints:
    """(n,) the size of the n-grams of each evaluation text, 0 if it is too short."""
    words = np.diff(block.word_offsets)
    leads, script = script_of(block.data)
    alone = np.bincount(block.document_at(leads[is_unspaced(script)]), minlength=block.documents)
    worth = np.where(2 * alone > words, CHARACTERS, 1)
    fitting = np.searchsorted(SIZES, words // worth, side="right")
    return np.array([0, *SIZES])[fitting] * worth


def _words(block: Block, word: int, size: int) -> str:
    end = block.word[word + size] if word + size < len(block.word) else len(block.data)
    return " ".join(block.data[block.word[word] : end].tobytes().decode(errors="ignore").split())


def _blocks(texts: pa.LargeStringArray) -> Iterator[Block]:
    """Blocks of the texts in lower case, everything but letters, digits and their marks made a blank."""
    for first, last in blocks(utf8(texts)[0], BLOCK_BYTES):
        yield block_of(_bare(pc.utf8_lower(texts.slice(first, last - first))))


def _bare(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    offsets, data = utf8(texts)
    keep = _in_words()[:128].take(data & 0x7F) & (data < 0x80)
    leads = np.flatnonzero(data >= 0xC0)
    if len(leads):
        lead = data[leads]
        width = 2 + (lead >= 0xE0).astype(np.int64) + (lead >= 0xF0)
        good = _in_words().take(code_points(data, leads), mode="clip")
        keep[ranges(leads[good], width[good])] = True
    bare = np.where(keep, data, np.uint8(ord(" ")))
    return pa.LargeStringArray.from_buffers(
        len(texts), pa.py_buffer(offsets.tobytes()), pa.py_buffer(bare.tobytes())
    )


@cache
def _in_words() -> npt.NDArray[np.bool_]:
    """(0x40000,) code points that are letters, digits, or marks on them."""
    return major("LNM")


def _pieces(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Ints]:
    """(the texts, those above PIECE_BYTES cut into overlapping pieces; the text that each piece is of)."""
    offsets, data = utf8(texts)
    sizes = np.diff(offsets)
    if not (sizes > PIECE_BYTES).any():
        return texts, np.arange(len(texts))
    step = PIECE_BYTES - OVERLAP_BYTES
    number = np.maximum(1, -(-(sizes - OVERLAP_BYTES) // step))
    text = np.repeat(np.arange(len(texts)), number)
    begin = offsets[text] + step * (np.arange(len(text)) - offsets_of(number)[text])
    end = np.minimum(begin + PIECE_BYTES, offsets[text + 1])
    for edge, limit in ((begin, offsets[text + 1]), (end, offsets[text + 1])):
        for _ in range(3):  # on to the beginning of a character
            edge += (edge < limit) & ((data.take(edge, mode="clip") & 0xC0) == 0x80)
    held = data[ranges(begin, end - begin)]
    cut = pa.LargeStringArray.from_buffers(
        len(text), pa.py_buffer(offsets_of(end - begin)), pa.py_buffer(held.tobytes())
    )
    return cut, text
