"""S3 over a line that breaks: nothing is lost, nothing half-written is visible, and every error is one sentence."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from infra import download_cache, folder_s3, s3
from infra.storage import Folder, StoreFull, StoreUnreachable, open_folder
from tests.infra.s3_server import FAULTS, FaultProxy, S3Server, free_port

AFTER = ("cut_answer", "lose_answer", "error_after")  # the server has done the work, we do not know it


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_one_repetition(s3_store: Folder, proxy: FaultProxy, fault: str) -> None:
    proxy.once(fault, "PUT")
    s3_store.write("x", b"content" * 1000)
    for ask in (s3_store.read, lambda name: s3_store.local(name).read_bytes()):
        for copy in Path(os.environ["CLOZE_CACHE"]).glob("*"):
            copy.unlink()
        proxy.once(fault, "GET")
        assert ask("x") == b"content" * 1000
    s3_store.write("empty", b"")
    proxy.once(fault, "HEAD")
    assert s3_store.size("empty") == 0
    s3_store.delete("empty")
    proxy.once(fault, "GET", "list-type")
    assert s3_store.names() == ["x"]
    proxy.once(fault, "DELETE")
    s3_store.delete("x")
    assert s3_store.names() == []
    assert proxy.count(fault) >= 5


def test_an_upload_cut_in_the_middle_is_never_visible(
    s3_store: Folder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write("x", b"old")
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    proxy.plan = lambda method, path: "cut_request" if method == "PUT" else None
    with pytest.raises(StoreUnreachable, match="2 attempts failed"):
        s3_store.write("x", bytes(1_000_000))
    with pytest.raises(StoreUnreachable), s3_store.writer("y") as path:
        path.write_bytes(bytes(1_000_000))
    assert s3_store.read("x") == b"old"
    assert s3_store.names() == ["x"]


@pytest.mark.parametrize("fault", AFTER)
def test_a_create_whose_answer_is_lost_knows_that_it_won(
    s3_store: Folder, proxy: FaultProxy, fault: str
) -> None:
    proxy.once(fault, "PUT")
    assert s3_store.create("x", b"same")
    assert not s3_store.create("x", b"same"), "equal content is not ours"
    proxy.once(fault, "PUT")
    assert not s3_store.create("x", b"same")
    assert s3_store.read("x") == b"same"


@pytest.mark.parametrize("fault", AFTER)
def test_a_replace_whose_answer_is_lost_knows_that_it_won(
    s3_store: Folder, proxy: FaultProxy, fault: str
) -> None:
    s3_store.write("x", b"6")
    tag = s3_store.read_tagged("x")[1]
    proxy.once(fault, "PUT")
    assert s3_store.replace("x", b"7", tag)
    proxy.once(fault, "PUT")
    assert not s3_store.replace("x", b"7", tag), "somebody else wrote the same 7"


def test_a_server_that_wants_quotes_round_the_tag_is_served(
    s3_store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers differ in which spelling of If-Match they accept (STACK: radosgw takes only the bare one)."""
    real = s3.request
    spellings = []

    def quotes_only(bucket: str, operation: str, **arguments: object) -> object:
        if "IfMatch" in arguments:
            spellings.append(arguments["IfMatch"])
            if not str(arguments["IfMatch"]).startswith('"'):
                raise s3.Refused
        return real(bucket, operation, **arguments)

    s3_store.write("x", b"1")
    tag = s3_store.read_tagged("x")[1]
    monkeypatch.setattr(folder_s3, "request", quotes_only)
    assert s3_store.replace("x", b"2", tag)
    assert spellings == [tag, f'"{tag}"']
    assert not s3_store.replace("x", b"3", tag)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_large_upload_survives_any_fault(
    s3_store: Folder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: str, method: str
) -> None:
    monkeypatch.setattr(folder_s3, "PART_BYTES", 5 << 20)
    content = os.urandom(6_000_000)
    proxy.once(fault, method, "uploadId" if method == "POST" else "partNumber=1")
    with s3_store.writer("big") as path:
        path.write_bytes(content)
    assert proxy.count(fault) == 1
    for copy in Path(os.environ["CLOZE_CACHE"]).glob("*"):
        copy.unlink()
    proxy.once(fault, "GET", "big")
    assert s3_store.local("big").read_bytes() == content


def test_a_failed_large_upload_leaves_no_object_and_no_parts(
    s3_store: Folder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_s3, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    proxy.plan = lambda method, path: "error" if "partNumber=2" in path else None
    with pytest.raises(StoreUnreachable), s3_store.writer("big") as path:
        path.write_bytes(bytes(6_000_000))
    assert s3_store.names() == []
    assert "Uploads" not in s3.request(s3_store.bucket, "list_multipart_uploads")


def test_uploads_that_killed_writers_left_are_removed(
    s3_store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_s3, "PART_BYTES", 5 << 20)
    key = f"{s3_store.prefix}/big"
    for _ in range(2):  # moto dates every upload 2010, so these are long abandoned
        s3.request(s3_store.bucket, "create_multipart_upload", Key=key)
    with s3_store.writer("big") as path:
        path.write_bytes(bytes(6_000_000))
    assert "Uploads" not in s3.request(s3_store.bucket, "list_multipart_uploads")
    s3.request(s3_store.bucket, "create_multipart_upload", Key=key)
    s3_store.delete_all()
    assert "Uploads" not in s3.request(s3_store.bucket, "list_multipart_uploads")


@pytest.mark.parametrize("seed", range(2))
def test_work_over_a_line_that_breaks_a_third_of_the_time_loses_nothing(
    s3_store: Folder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 14)
    proxy.slow_seconds = 0.02
    proxy.at_random(seed, 1 / 3)
    random = Random(seed)
    model: dict[str, bytes] = {}
    for n in range(40):
        name, data = f"f{random.randrange(6)}", f"{n} ".encode() * random.randrange(3000)
        match random.randrange(5):
            case 0:
                s3_store.write(name, data)
                model[name] = data
            case 1:
                with s3_store.writer(name) as path:
                    path.write_bytes(data)
                model[name] = data
            case 2:
                assert s3_store.create(name, data) == (name not in model)
                model.setdefault(name, data)
            case 3 if name in model:
                assert s3_store.replace(name, data, s3_store.read_tagged(name)[1])
                model[name] = data
            case 4:
                s3_store.delete(name)
                model.pop(name, None)
        assert s3_store.names() == sorted(model)
        if name in model:
            assert s3_store.read(name) == s3_store.local(name).read_bytes() == model[name]
    assert proxy.count() - proxy.count("slow") > 100


def test_no_increment_is_lost_or_doubled_when_answers_are(s3_store: Folder, proxy: FaultProxy) -> None:
    """Four writers compare and swap over a line that swallows a fifth of the answers.

    A swap that succeeded is never denied here unless another replaced it at once, so the count may run ahead of the
    acknowledged swaps but never falls behind them.
    """
    s3_store.write("counter", b"0")
    proxy.at_random(0, 0.2, AFTER)
    acknowledged = []

    def work() -> None:
        done = 0
        while done < 6:
            data, tag = s3_store.read_tagged("counter")
            done += s3_store.replace("counter", str(int(data) + 1).encode(), tag)
        acknowledged.append(done)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert acknowledged == [6] * 4
    assert int(s3_store.read("counter")) >= 24


# -- the download cache -----------------------------------------------------------------------------------------------


def test_a_file_is_downloaded_once_and_again_when_it_changes(
    s3_store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def counted(bucket: str, **arguments: str) -> tuple[bytes, str]:
        downloads.append(arguments["Key"])
        return s3.body(bucket, **arguments)

    monkeypatch.setattr(folder_s3, "body", counted)
    s3_store.write("x.txt", b"one")
    first = s3_store.local("x.txt")
    assert s3_store.local("x.txt") == first
    assert open_folder(s3_store.url).local("x.txt") == first
    assert len(downloads) == 1
    s3_store.write("x.txt", b"two")
    assert s3_store.local("x.txt").read_bytes() == b"two"
    assert first.read_bytes() == b"one", "who holds the old copy keeps it"
    with s3_store.writer("y.txt") as path:
        path.write_bytes(b"mine")
    assert s3_store.local("y.txt").read_bytes() == b"mine"
    assert len(downloads) == 2, "what we wrote ourselves is not fetched back"


def test_a_damaged_copy_is_fetched_again(s3_store: Folder) -> None:
    s3_store.write("x", b"content")
    copy = s3_store.local("x")
    copy.chmod(0o644)
    copy.write_bytes(b"con")
    assert s3_store.local("x").read_bytes() == b"content"
    copy.chmod(0o644)
    copy.write_bytes(b"CONTENT")
    s3_store.forget("x")
    s3_store.forget("absent")
    assert s3_store.local("x").read_bytes() == b"content"


def test_a_file_replaced_during_its_download_is_never_mixed(
    s3_store: Folder, proxy: FaultProxy, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_s3, "PART_BYTES", 1000)
    monkeypatch.setattr(folder_s3, "STREAMS", 1)
    key = f"{s3_store.prefix}/x"
    with monkeypatch.context() as directly:
        directly.setenv("AWS_ENDPOINT_URL", s3_server.url)
        behind_the_proxy = s3.client()
    behind_the_proxy.put_object(Bucket=s3_store.bucket, Key=key, Body=b"a" * 3000)
    parts = []

    def plan(method: str, path: str) -> None:
        parts.append(method)
        if parts.count("GET") == 2:
            behind_the_proxy.put_object(Bucket=s3_store.bucket, Key=key, Body=b"b" * 3000)

    proxy.plan = plan
    assert s3_store.local("x").read_bytes() == b"b" * 3000


def test_the_cache_keeps_its_limit_but_not_at_the_cost_of_files_in_use(
    s3_store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOZE_CACHE_GB", "0.0003")
    copies = []
    for n in range(5):
        s3_store.write(f"f{n}", bytes([n]) * 100_000)
        copies.append(s3_store.local(f"f{n}"))
    assert all(copy.exists() for copy in copies)
    long_ago = time.time() - download_cache.IN_USE_SECONDS - 60
    for n, copy in enumerate(copies):
        os.utime(copy, (long_ago + n, long_ago + n))
    s3_store.local("f0")  # used again
    s3_store.write("f5", b"5" * 100_000)
    s3_store.local("f5")
    assert [copy.exists() for copy in copies] == [True, False, False, False, True]
    with s3_store.writer("big") as path:
        path.write_bytes(bytes(300_001))
    assert not any(p.name.endswith("-big") for p in copies[0].parent.iterdir()), (
        "our own writing is not worth its room"
    )


# -- errors -----------------------------------------------------------------------------------------------------------


def refuse_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "FIRST_WAIT_SECONDS", 0.001)


def everything(store: Folder) -> list[Callable[[], object]]:
    return [
        lambda: store.read("x"),
        lambda: store.exists("x"),
        lambda: store.write("x", b""),
        lambda: store.create("x", b""),
        lambda: store.replace("x", b"", "tag"),
        lambda: store.local("x"),
        store.names,
        store.folders,
        lambda: store.delete("x"),
        store.delete_all,
    ]


def test_a_server_that_is_not_there_is_one_sentence(
    s3_store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_wait(monkeypatch)
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:hunter2@{address}")
    for act in everything(s3_store):
        with pytest.raises(StoreUnreachable) as caught:
            act()
        message = str(caught.value)
        assert f"{s3_store.url}" in message
        assert (
            f"cannot be reached at http://{address}: 8 attempts failed (endpoint connection error)" in message
        )
        assert "check that the server runs" in message
        assert "hunter2" not in message
        assert "test-secret" not in message


def test_a_server_that_does_not_answer_is_given_up(
    s3_store: Folder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    proxy.slow_seconds = 1.0
    proxy.at_random(0, 1.0, ("slow",))
    with pytest.raises(StoreUnreachable, match=r"2 attempts failed \(read timeout error\)"):
        s3_store.read("x")


def test_a_server_that_only_fails_is_given_up(
    s3_store: Folder, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 3)
    proxy.at_random(0, 1.0, ("error",))
    for act in everything(s3_store):
        with pytest.raises(StoreUnreachable, match=r"3 attempts failed \((InternalError|500), HTTP 500\)"):
            act()


@pytest.mark.parametrize("endpoint", ["no-scheme", "http://", "ftp://x"])
def test_an_endpoint_that_is_no_url_is_one_sentence(
    s3_store: Folder, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    refuse_to_wait(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StoreUnreachable, match="AWS_ENDPOINT_URL"):
        s3_store.read("x")


def test_missing_keys_are_one_sentence(
    s3_store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreUnreachable, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        s3_store.read("x")


@pytest.mark.parametrize(
    ("code", "status", "kind", "says"),
    [
        (
            "AccessDenied",
            403,
            StoreUnreachable,
            "refuses a request for .*AccessDenied, HTTP 403.*rights on the bucket",
        ),
        ("InvalidAccessKeyId", 403, StoreUnreachable, "check AWS_ACCESS_KEY_ID"),
        ("XMinioStorageFull", 507, StoreFull, "nothing half-written was published; make room"),
    ],
)
def test_refusals_are_not_repeated_and_say_what_to_check(
    s3_store: Folder, monkeypatch: pytest.MonkeyPatch, code: str, status: int, kind: type[OSError], says: str
) -> None:
    from botocore.exceptions import ClientError

    calls = []

    class Refusing:
        def put_object(self, **_: object) -> None:
            calls.append(1)
            raise ClientError(
                {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject"
            )

    monkeypatch.setattr(s3, "client", Refusing)
    with pytest.raises(kind, match=says):
        s3_store.write("x", b"")
    assert len(calls) == 1
