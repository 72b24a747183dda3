"""Which documents might be near duplicates: equal MinHash bands, found by sorting, in this generation and before it.

    sign     (a part)             kept rows    -> band keys, sorted; length and id of each document
    propose  (a range of keys)    band keys    -> pairs (worse, better) of documents with an equal key
    index    (a range of keys)    survivors    -> index-<range>.keys / .documents: what the next generation searches

A bucket is the documents with one key. Within it the longer text is preferred, then the smaller id: a property of the
content, so neither partitions nor file names nor order can change a result. Each document is compared with the first and
the nearest `bucket_limit` / 2 that are preferred to it, which is all of them in buckets up to that size. Larger ones would
cost the square of their size, and are pages of one template: six minima that all come from what they share. Copies of such
a page are found by the other bands, whose minima are the page's own: 500 pages alike by 0.72 with 50 copies lost none
even at a limit of 4. The pairs left out are counted.

Memory: `sign`, 24 bytes for each row of the part and 30 for each key (14 keys a document: 450 bytes a document); the other
two, 60 bytes for each of the 500,000 keys of a range, and 64 for each pair of it, of which `bucket_limit` a key is the most.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from corpus.columns import utf8
from corpus.document import ids_of
from corpus.near.minhash import band_keys
from corpus.near.references import (
    groups,
    open_array,
    read_batches,
    reference,
    rows_in,
    scratch,
    text_column,
    write_scratch,
)
from corpus.ragged import Ints, ranges
from corpus.rows import read_rows
from corpus.stream import Words
from infra.artifacts import Artifact, Counts
from infra.output import PartitionOutput
from infra.storage import Folder

KEYS_IN_RANGE = 1 << 19
RANK = np.dtype(
    [("length", "<u8"), ("id", ">u8", 2)]
)  # bytes of text; big-endian, so that numbers sort like ids
PAIR = np.dtype([("worse", "<u8"), ("better", "<u8")])


def sign(
    part: str, *, documents: Artifact, kept: Artifact | None, bands: int, rows: int, out: PartitionOutput
) -> Counts:
    """The sorted band keys of a part's kept documents with their rows, and the rank of every row of the part."""
    count = documents_in(documents, part)
    chosen = np.arange(count) if kept is None else read_rows(kept, part)
    rank = np.zeros(count, RANK)
    keys, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
    for numbers, table in read_batches(documents, part, chosen, ("id", "text")):
        texts = text_column(table)
        rank["length"][numbers] = np.diff(utf8(texts)[0])
        rank["id"][numbers] = ids_of(table).view(">u8").reshape(-1, 2)
        filled, batch = band_keys(texts, bands=bands, rows=rows)
        keys.append(batch.ravel())
        owners.append(np.repeat(numbers[filled], bands).astype(np.uint32))
    every = np.concatenate(keys)
    order = np.argsort(every, kind="stable")
    write_scratch(out, "keys", every[order])
    write_scratch(out, "owners", np.concatenate(owners)[order])
    write_scratch(out, "rank", rank)
    return {"read": len(chosen), "keys": len(every)}


def documents_in(documents: Artifact, part: str) -> int:
    """The number of rows of a part."""
    return int(pq.read_metadata(documents.path(f"{part}.parquet")).num_rows)


def ranges_for(keys: int) -> int:
    """Into how many ranges the keys are cut: a power of two, so that ranges of different generations nest."""
    return 1 << max(0, (keys - 1) // KEYS_IN_RANGE).bit_length()


def propose(
    number: int, *, count: int, signed: list[str], history: list[Artifact], limit: int, out: PartitionOutput
) -> Counts:
    """Pairs of range `number` of `count`, each once, sorted; and every document they mention, sorted."""
    keys, owners, sizes = _buckets(out.folder, signed, *_read_range(out.folder, signed, number, count))
    found = [_within(owners, sizes, limit)]
    left_out = int(np.maximum(_places(sizes) - limit, 0).sum())
    for generation, earlier in enumerate(history, 1):
        for index in index_slices(earlier, number, count):
            pairs, matches = _across(keys, owners, index, generation, limit)
            left_out += int(np.maximum(matches - limit, 0).sum())
            found.append(pairs)
    pairs = unique_pairs(np.concatenate(found))
    for side in ("worse", "better"):
        write_scratch(out, side, pairs[side])
    write_scratch(out, "mentions", np.unique(np.concatenate([pairs["worse"], pairs["better"]])))
    return {"pairs_left_out": left_out}


def write_index(number: int, *, count: int, signed: list[str], removed: str, out: PartitionOutput) -> Counts:
    """The keys of range `number` and the documents they belong to, survivors only, sorted by key and preference."""
    keys, owners = _read_range(out.folder, signed, number, count)
    stays = ~np.isin(owners, scratch(out.folder, removed, np.uint64))
    keys, owners, _ = _buckets(out.folder, signed, keys[stays], owners[stays])
    for name, array in (("keys", keys), ("documents", owners)):
        with out.writer(index_name(number, name)) as path:
            array.tofile(path)
    return {}


def index_name(number: int, suffix: str) -> str:
    return f"index-{number:05d}.{suffix}"


def index_slices(artifact: Artifact, number: int, count: int) -> Iterator[tuple[Words, Words]]:
    """Keys and documents of an earlier generation that lie in range `number` of `count`, memory-mapped."""
    files = len([n for n in artifact.names("index-") if n.endswith(".keys")])
    first, last = number * files // count, max((number + 1) * files // count, number * files // count + 1)
    for file in range(first, last):
        keys, owners = (
            open_array(artifact.path(index_name(file, s)), np.uint64) for s in ("keys", "documents")
        )
        inside = _key_range(keys, number, count)
        yield keys[inside], owners[inside]


def unique_pairs(pairs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Sorted by (worse, better), each once."""
    pairs = pairs[np.lexsort((pairs["better"], pairs["worse"]))]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs["worse"][1:] != pairs["worse"][:-1]) | (pairs["better"][1:] != pairs["better"][:-1])
    return pairs[new]


def _key_range(keys: Words, number: int, count: int) -> slice:
    width = (1 << 64) // count
    bounds = np.array([number * width, number * width + width - 1], np.uint64)
    return slice(int(np.searchsorted(keys, bounds[0])), int(np.searchsorted(keys, bounds[1], side="right")))


def _read_range(folder: Folder, signed: list[str], number: int, count: int) -> tuple[Words, Words]:
    """The keys of one range with the references of their documents, part after part."""
    keys, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for part, name in enumerate(signed):
        every = scratch(folder, f"{name}.keys", np.uint64)
        inside = _key_range(every, number, count)
        keys.append(every[inside])
        owners.append(reference(0, part, scratch(folder, f"{name}.owners", np.uint32)[inside]))
    return np.concatenate(keys), np.concatenate(owners)


def _buckets(folder: Folder, signed: list[str], keys: Words, owners: Words) -> tuple[Words, Words, Ints]:
    """Both sorted by key and, within a bucket, the preferred document first; and the sizes of the buckets."""
    order = np.argsort(keys, kind="stable")
    new = np.ones(len(keys), bool)
    new[1:] = keys[order[1:]] != keys[order[:-1]]
    sizes = np.diff(np.flatnonzero(new), append=len(keys))
    several = order[shared := np.repeat(sizes > 1, sizes)]  # ranks are read only where a bucket has an order
    rank = np.zeros(len(several), RANK)
    for (_, part), at in groups(owners[several]):
        rank[at] = scratch(folder, f"{signed[part]}.rank", RANK)[rows_in(owners[several[at]])]
    ids = rank["id"]
    order[shared] = several[np.lexsort((ids[:, 1], ids[:, 0], ~rank["length"], keys[several]))]
    return keys[order], owners[order], sizes


def _places(sizes: Ints) -> Ints:
    """(sum,) the place of each document in its bucket; 0 is the preferred one."""
    return ranges(np.zeros_like(sizes), sizes)


def _within(owners: Words, sizes: Ints, limit: int) -> npt.NDArray[np.void]:
    """Pairs within buckets: each document with the first and the nearest `limit` / 2 that are preferred to it."""
    place = _places(sizes)
    number = np.minimum(place, limit)
    which = _places(number)
    own = np.repeat(place, number)
    better = np.where((own <= limit) | (which < limit // 2), which, own - limit + which)
    pairs = np.empty(len(which), PAIR)
    pairs["worse"] = np.repeat(owners, number)
    pairs["better"] = owners[np.repeat(np.arange(len(owners)) - place, number) + better]
    return pairs[pairs["worse"] != pairs["better"]]


def _across(
    keys: Words, owners: Words, index: tuple[Words, Words], generation: int, limit: int
) -> tuple[npt.NDArray[np.void], Ints]:
    """Pairs with an earlier generation: each key with the first `limit` documents of its bucket; sizes of the buckets."""
    old_keys, old_owners = index
    first = np.searchsorted(old_keys, keys)
    matches = np.searchsorted(old_keys, keys, side="right") - first
    taken = np.minimum(matches, limit)
    pairs = np.empty(int(taken.sum()), PAIR)
    pairs["worse"] = np.repeat(owners, taken)
    pairs["better"] = old_owners[ranges(first, taken)] | reference(generation, 0, np.zeros(1, np.int64))
    return pairs, matches
