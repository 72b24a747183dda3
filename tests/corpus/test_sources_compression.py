"""Compressed text is read by what it is, to its last whole byte; what is wrong with it is said in one sentence."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sources.compression import decompress, without_compression
from corpus.sources.source import TruncatedFile
from tests.corpus.source_kit import at_most, one_way

TEXT = b"".join(f"Line {i} of a text that goes on: {i * i % 9973}.\n".encode() for i in range(20_000))
FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def read_all(data: bytes, size: int = 1 << 16) -> tuple[bytes, str]:
    """(what came out, what the error says or "")."""
    stream, out = decompress(io.BytesIO(data), "a.txt of source 'x'"), b""
    try:
        while block := stream.read(size):
            out += block
    except TruncatedFile as error:
        return out, str(error)
    return out, ""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [7, 1 << 16, 1 << 22])
def test_every_format_is_known_by_its_first_bytes(format: str, size: int) -> None:
    data = FORMATS[format](TEXT)
    assert len(data) < len(TEXT)
    part = TEXT if size > 7 else TEXT[:5000]
    assert read_all(FORMATS[format](part), size) == (part, "")


@pytest.mark.parametrize("format", FORMATS)
def test_members_that_follow_each_other_are_one_stream(format: str) -> None:
    compress = FORMATS[format]
    members = b"".join(compress(TEXT[i : i + 90_000]) for i in range(0, len(TEXT), 90_000))
    assert read_all(members) == (TEXT, "")
    assert read_all(compress(b"") + compress(TEXT) + compress(b"") + bytes(700)) == (TEXT, ""), (
        "padding is no data"
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_that_cannot_seek_and_hands_out_little_is_read_the_same(format: str) -> None:
    data = FORMATS[format](TEXT)
    stream = decompress(one_way([data], most=1000), "a")
    assert b"".join(iter(lambda: stream.read(10_000), b"")) == TEXT
    assert decompress(one_way([b"plain"], most=2), "a").read() == b"plain"


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_file_gives_all_it_holds_and_then_says_where_it_broke_off(format: str) -> None:
    data = FORMATS[format](TEXT)
    lengths = []
    for cut in (len(data) - 1, len(data) // 2, 60):
        out, error = read_all(data[:cut])
        assert TEXT.startswith(out)
        lengths.append(len(out))
        assert f"a.txt of source 'x' breaks off inside its {format} data at byte {cut}" in error
        assert "what came before is kept; replace the file with a whole copy" in error
    assert lengths == sorted(lengths, reverse=True)
    if format == "gzip":  # zlib itself: all that these bytes can tell
        half = data[: len(data) // 2]
        assert lengths[1] == len(zlib.decompressobj(wbits=31).decompress(half))


@pytest.mark.parametrize("format", FORMATS)
def test_damage_and_something_behind_the_end_are_named(format: str) -> None:
    data = FORMATS[format](TEXT)
    out, error = read_all(data + b"and then some other bytes")
    assert out == TEXT
    assert f"is followed by something else after its {format} data at byte {len(data)}" in error
    noise = Random(0)
    damaged = bytearray(data)
    for i in range(len(data) // 2, len(data) // 2 + 2000 if len(data) > 8000 else len(data)):
        damaged[i] = noise.randrange(256)
    out, error = read_all(bytes(damaged))
    assert f"its {format} data at byte" in error
    assert "replace the file" in error


@pytest.mark.parametrize("format", FORMATS)
def test_a_bomb_fills_no_memory(format: str) -> None:
    bomb = FORMATS[format](bytes(100_000_000))
    assert len(bomb) < 200_000
    with at_most(60):
        stream = decompress(io.BytesIO(bomb), "a")
        assert sum(map(len, iter(lambda: stream.read(1 << 20), b""))) == 100_000_000


def test_skippable_frames_of_zstd_are_skipped() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    frame = zstandard.ZstdCompressor().compress(TEXT)
    assert read_all(skipped + frame + skipped + frame) == (TEXT + TEXT, "")


def test_a_name_is_only_a_name() -> None:
    assert read_all(b"BZh9 is how this text begins") == (b"BZh9 is how this text begins", "")
    assert without_compression("a.txt.gz") == without_compression("a.txt") == "a.txt"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.sampled_from(sorted(FORMATS)), st.integers(1, 5000))
def test_any_bytes_survive(data: bytes, format: str, size: int) -> None:
    assert read_all(FORMATS[format](data), size) == (data, "")
