"""One layer below every reader: gzip, bzip2, xz and zstd are recognised by their first bytes, never by a name.

Members that follow each other are one stream (pigz, bgzip, WARC, multistream Wikipedia dumps). Output is produced as it
is asked for, so a bomb fills no memory. A file that breaks off gives every byte it holds, then TruncatedFile.
"""

import bz2
import io
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, Protocol, cast

import zstandard

from corpus.sources.source import BLOCK, TruncatedFile

INPUT_BYTES = (
    8 << 10
)  # compressed bytes handed over at a time: what a damaged place can cost of the text before it
# zstd cannot be told to stop: 4 bytes of input may be 128 KiB of output, so its input is rationed (16 MiB at most)
ZSTD_INPUT_BYTES = 512
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAGIC_BYTES = 10


class _Decoder(Protocol):
    """One member. `needs_input` False: more output can be had for b""."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._z = zlib.decompressobj(wbits=31)
        self.eof, self.unused_data, self.needs_input = False, b"", True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._z.decompress(self._z.unconsumed_tail + data, max_length)
        self.eof, self.unused_data = self._z.eof, self._z.unused_data
        # a full answer may have more behind it even when all input is taken
        self.needs_input = not self._z.unconsumed_tail and len(out) < max_length
        return out


class _Zstd:
    needs_input = True

    def __init__(self) -> None:
        self._z = zstandard.ZstdDecompressor().decompressobj()
        self.eof, self.unused_data = False, b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._z.decompress(data)
        self.eof, self.unused_data = self._z.eof, self._z.unused_data
        return out


class _Format(NamedTuple):
    name: str
    starts: Callable[[bytes], bool]
    decoder: Callable[[], _Decoder]
    input_bytes: int = INPUT_BYTES


def _is_zstd(head: bytes) -> bool:
    return head.startswith(_ZSTD) or (
        head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    )  # or a skippable frame


def _is_bzip2(head: bytes) -> bool:
    return head.startswith(b"BZh") and head[4:10] in (
        b"\x31\x41\x59\x26\x53\x59",
        b"\x17\x72\x45\x38\x50\x90",
    )


_FORMATS = (
    _Format("gzip", lambda head: head.startswith(b"\x1f\x8b\x08"), _Gzip),
    _Format("zstd", _is_zstd, _Zstd, ZSTD_INPUT_BYTES),
    _Format("bzip2", _is_bzip2, bz2.BZ2Decompressor),
    _Format("xz", lambda head: head.startswith(b"\xfd7zXZ\0"), lzma.LZMADecompressor),
)
SUFFIXES = (".gz", ".zst", ".bz2", ".xz")  # only to see the name below: "a.txt.gz" is text


def without_compression(name: str) -> str:
    """ "a.txt.gz" -> "a.txt"."""
    return name.rpartition(".")[0] if name.endswith(SUFFIXES) else name


def decompress(stream: BinaryIO, label: str) -> BinaryIO:
    """What the stream holds, decompressed if it is compressed; `label` names the file in errors.

    A stream that is not compressed keeps what it can (seeking). Reading raises TruncatedFile where the data break off, are
    damaged, or are followed by something else, and never before all that can be read has been handed out.
    """
    if stream.seekable():
        begin = stream.tell()
        head = stream.read(_MAGIC_BYTES)
        stream.seek(begin)
    else:
        if not hasattr(stream, "peek"):
            stream = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream)))
        head = cast(io.BufferedReader, stream).peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
    for format in _FORMATS:
        if format.starts(head):
            return cast(BinaryIO, _Decompressed(stream, format, label))
    return stream


@contextmanager
def seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The stream itself, or what it holds in a temporary file: for formats that are read from their end."""
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as spool:
        while block := stream.read(BLOCK):
            spool.write(block)
        spool.seek(0)
        yield cast(BinaryIO, spool)


class _Decompressed(io.RawIOBase):
    """Fills every buffer it is given; an error waits until all before it has been handed out."""

    def __init__(self, stream: BinaryIO, format: _Format, label: str) -> None:
        super().__init__()
        self._stream, self._format, self._label = stream, format, label
        self._decoder: _Decoder | None = None
        self._input = b""
        self._taken = 0  # compressed bytes handed to decoders
        self._out = memoryview(b"")
        self._error: TruncatedFile | None = None
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            if not self._out and not self._more(len(view) - filled):
                break
            count = min(len(view) - filled, len(self._out))
            view[filled : filled + count] = self._out[:count]
            self._out = self._out[count:]
            filled += count
        if not filled and self._error is not None and len(view):
            raise self._error
        return filled

    def _more(self, wanted: int) -> bool:
        """Produce some output; False at the end, which may be an error."""
        while not self._ended:
            try:
                self._out = memoryview(self._step(wanted))
            except TruncatedFile as error:
                self._error, self._ended = error, True
            if self._out:
                return True
        return False

    def _step(self, wanted: int) -> bytes:
        if self._decoder is None and not self._next_member():
            self._ended = True
            return b""
        decoder = self._decoder
        assert decoder is not None
        data = b""
        if decoder.needs_input:
            data = self._take()
            if not data:
                raise self._broken("breaks off inside")
        try:
            out = decoder.decompress(data, max(wanted, 1 << 16))
        except (zlib.error, OSError, lzma.LZMAError, zstandard.ZstdError, EOFError) as error:
            raise self._broken("is damaged in", f" ({error})") from None
        if decoder.eof:
            self._input = decoder.unused_data + self._input
            self._taken -= len(decoder.unused_data)
            self._decoder = None
        return out

    def _take(self) -> bytes:
        if not self._input:
            self._input = self._stream.read(64 << 10)
        data, self._input = self._input[: self._format.input_bytes], self._input[self._format.input_bytes :]
        self._taken += len(data)
        return data

    def _next_member(self) -> bool:
        """Begin the next member; False if there is none. Zeros after the last one are padding (tapes, block devices)."""
        while True:
            if len(self._input) < _MAGIC_BYTES:
                self._input += self._stream.read(64 << 10)
            if not self._taken or not self._input.startswith(b"\0"):
                break
            padding = len(self._input) - len(self._input.lstrip(b"\0"))
            self._input = self._input[padding:]
            self._taken += padding
        if not self._input:
            return False
        if not self._format.starts(self._input[:_MAGIC_BYTES]):
            raise self._broken("is followed by something else after")
        self._decoder = self._format.decoder()
        return True

    def _broken(self, how: str, why: str = "") -> TruncatedFile:
        return TruncatedFile(
            f"{self._label} {how} its {self._format.name} data at byte {self._taken}{why}; "
            "what came before is kept; replace the file with a whole copy"
        )
