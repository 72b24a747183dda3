"""Objects of a bucket as streams: whole, seekable, of one version, and over a line that breaks."""

import hashlib
import io
import os
import secrets
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import objects, s3
from infra.objects import ObjectChanged, list_objects, open_object, split_url
from infra.storage import Folder, StoreUnreachable
from tests.infra.s3_server import FAULTS, FaultProxy, S3Server

KEY = "some/prefix/x"


@pytest.fixture
def bucket(s3_store: Folder) -> str:
    """The bucket below `s3_store`."""
    return split_url(s3_store.url)[0]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "FIRST_BLOCK", 1000)
    monkeypatch.setattr(objects, "LARGEST_BLOCK", 16_000)


def put(bucket: str, data: bytes, key: str = KEY) -> bytes:
    s3.client().put_object(Bucket=bucket, Key=key, Body=data)
    return data


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 100_000])
def test_an_object_is_read_whole_in_any_steps(bucket: str, size: int) -> None:
    data = put(bucket, os.urandom(size))
    with open_object(bucket, KEY) as stream:
        assert stream.read() == data
    with open_object(bucket, KEY) as stream:
        assert b"".join(iter(lambda: stream.read(777), b"")) == data


def test_an_object_is_sought_like_a_file(bucket: str) -> None:
    data = put(bucket, os.urandom(60_000))
    local, random = io.BytesIO(data), Random(0)
    with open_object(bucket, KEY) as stream:
        for _ in range(60):
            offset, whence = random.choice([(random.randrange(61_000), 0), (-random.randrange(60_000), 2)])
            assert stream.seek(offset, whence) == local.seek(offset, whence)
            count = random.choice([0, 1, 5000])
            assert stream.read(count) == local.read(count)
            assert stream.tell() == local.tell()


def test_parquet_is_read_from_an_object_without_fetching_all_of_it(bucket: str, proxy: FaultProxy) -> None:
    table = pa.table(
        {"text": [f"row {i}" for i in range(1000)], "big": [os.urandom(2000) for _ in range(1000)]}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=100)
    put(bucket, sink.getvalue())
    proxy.seen.clear()
    with open_object(bucket, KEY) as stream:
        assert pq.ParquetFile(stream, pre_buffer=False).read(["text"]) == table.select(["text"])
    assert len(sink.getvalue()) > 2_000_000
    assert proxy.count() * 16_000 < 1_000_000


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_middle_costs_one_request_more(bucket: str, proxy: FaultProxy, fault: str) -> None:
    data = put(bucket, os.urandom(100_000))
    with open_object(bucket, KEY) as stream:
        first = stream.read(20_000)
        before = proxy.count()
        proxy.once(fault, "GET")
        assert first + stream.read() == data
    assert proxy.count(fault) == 1
    assert proxy.count() - before <= 100_000 // 16_000 + 2, "what had come was not asked for again"


def test_any_share_of_faults_gives_the_same_bytes(bucket: str, proxy: FaultProxy) -> None:
    data = put(bucket, os.urandom(300_000))
    proxy.slow_seconds = 0.01
    proxy.at_random(seed=1, share=0.3)
    with open_object(bucket, KEY) as stream:
        assert b"".join(iter(lambda: stream.read(7000), b"")) == data
    assert proxy.count("cut_answer") > 0


def test_an_object_replaced_or_removed_while_it_is_read_is_one_sentence(bucket: str) -> None:
    put(bucket, bytes(100_000))
    with open_object(bucket, KEY) as stream:
        stream.read(10)
        put(bucket, os.urandom(100_000))
        with pytest.raises(
            ObjectChanged, match=rf"{KEY} was replaced while it was read \(at byte \d+\); read it again"
        ):
            stream.read()
    with open_object(bucket, KEY) as stream:
        stream.read(10)
        s3.client().delete_object(Bucket=bucket, Key=KEY)
        with pytest.raises(FileNotFoundError, match=KEY):
            stream.read()
    with pytest.raises(FileNotFoundError, match=KEY):
        open_object(bucket, KEY)


def test_listing_goes_page_by_page_and_survives_faults(bucket: str, proxy: FaultProxy) -> None:
    for i in range(5):
        put(bucket, bytes(i), f"list/{i}")
    put(bucket, b"", "listless")
    real = s3.client().list_objects_v2
    pages = []

    def two_a_page(**arguments: object) -> object:
        pages.append(arguments)
        return real(**arguments, MaxKeys=2)

    s3.client().list_objects_v2 = two_a_page
    proxy.once("cut_answer", "GET", "list-type")
    listing = list_objects(bucket, "list/")

    def version(i: int) -> str:
        return hashlib.md5(bytes(i), usedforsecurity=False).hexdigest()

    assert next(listing) == ("list/0", 0, version(0))
    assert len(pages) == 2, "one page, asked for twice"
    assert list(listing) == [(f"list/{i}", i, version(i)) for i in range(1, 5)]
    assert len(pages) == 4


def test_a_server_that_stays_away_is_one_sentence(
    bucket: str, monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy
) -> None:
    put(bucket, bytes(100_000))
    stream = open_object(bucket, KEY)
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    proxy.plan = lambda method, path: "error"
    with pytest.raises(StoreUnreachable, match="2 attempts failed") as raised:
        stream.read()
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="is not an S3 bucket name"):
        split_url("s3://Not_A_Bucket/x")


def test_buckets_have_names(s3_settings: S3Server) -> None:
    assert split_url("s3://bucket/a/b.txt") == ("bucket", "a/b.txt")
    with pytest.raises(StoreUnreachable, match="there is no bucket"):
        list(list_objects(f"none-{secrets.token_hex(4)}", ""))
