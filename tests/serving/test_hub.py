"""The Hugging Face client protocol and its errors, over real HTTP on loopback."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.storage import Folder
from serving.batching import Batcher
from serving.routes.exchange import Limits
from serving.smoke import SmokeFailure, call, smoke_test
from tests.serving.kit import Words, desk_of, promote, register, served


@pytest.fixture
def url(store: Folder):
    for name in ("blanks", "topics"):
        register(store, name, f"{name}-digest", accuracy=0.5)
        promote(store, name, 1)
    register(store, "absent", "bad")
    promote(store, "absent", 1)
    desk = desk_of(store, "blanks@production", "topics@v1", "absent", limits=Limits(body_bytes=5000, texts=4))
    with served(desk) as url:
        yield url


def post(url: str, body) -> tuple[int, object, dict[str, str]]:
    return call(url, body, timeout_seconds=10)


def test_fill_mask_and_classification_answer_in_the_clients_form(url: str) -> None:
    guess = {"score": 1.0, "token": 7, "token_str": "blanks-digest", "sequence": "blanks-digest"}
    assert post(f"{url}/models/blanks", {"inputs": "a b"})[:2] == (200, [guess])
    assert (
        post(f"{url}/models/blanks", {"inputs": ["a b", "c"], "parameters": {"top_k": 2}})[1]
        == [[guess] * 2] * 2
    )
    assert post(f"{url}/models/topics", {"inputs": "a", "parameters": {"top_k": 2}})[1] == [
        [{"label": "b", "score": 0.75}, {"label": "a", "score": 0.25}]
    ]
    assert (
        post(f"{url}/models/topics/pipeline/text-classification", {"inputs": "a", "parameters": None})[0]
        == 200
    )


def test_every_answer_says_which_model_gave_it(url: str) -> None:
    _, _, headers = post(f"{url}/models/topics", {"inputs": "a"})
    assert (headers["x-model-version"], headers["x-model-digest"]) == ("1", "topics-digest")
    assert len(headers["x-request-id"]) == 32


@pytest.mark.parametrize("header", ["X-Request-Id", "X-Amzn-Trace-Id"])
def test_a_request_id_comes_back_also_with_an_error(url: str, header: str) -> None:
    import httpx

    for body, status in (({"inputs": "a"}, 200), ({"inputs": 3}, 422)):
        response = httpx.post(f"{url}/models/topics", json=body, headers={header: "my-id-7"})
        assert (response.status_code, response.headers["X-Request-Id"]) == (status, "my-id-7")


def test_a_cut_input_is_said_in_the_header_the_client_logs(url: str) -> None:
    assert "x-hf-warning" not in post(f"{url}/models/blanks", {"inputs": "a b c d e f g h"})[2]
    _, _, headers = post(f"{url}/models/blanks", {"inputs": "a b c d e f g h i j"})
    assert headers["x-hf-warning"] == "truncation; input truncated 10 -> 8 tokens"
    _, _, headers = post(f"{url}/models/blanks", {"inputs": ["a " * 9, "a", "a " * 12]})
    assert headers["x-hf-warning"] == "truncation; 2 of 3 inputs, the longest truncated 12 -> 8 tokens"


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (
            "/models/nobody",
            {"inputs": "a"},
            404,
            "no model 'nobody' is served here; served are blanks, topics, absent",
        ),
        (
            "/models/blanks/pipeline/text-classification",
            {"inputs": "a"},
            400,
            "blanks answers fill-mask, not text-classification",
        ),
        ("/models/blanks", {"inputs": 3}, 422, "inputs is a number"),
        (
            "/models/blanks",
            {"inputs": ["a", None]},
            422,
            "inputs is a list; it must be a string or a list of strings",
        ),
        ("/models/blanks", {"inputs": " "}, 422, "inputs is empty"),
        ("/models/blanks", {"inputs": []}, 422, "inputs is empty"),
        ("/models/blanks", {}, 422, "inputs is a null"),
        ("/models/blanks", ["a"], 400, "the body is a JSON list"),
        (
            "/models/blanks",
            {"inputs": "a", "top_k": 1},
            422,
            "unknown field 'top_k'; options of the task go into 'parameters'",
        ),
        ("/models/blanks", {"inputs": "a", "parameters": [1]}, 422, "parameters is not an object"),
        (
            "/models/blanks",
            {"inputs": "a", "parameters": {"topk": 1}},
            422,
            "unknown parameter 'topk'; did you mean 'top_k'?",
        ),
        (
            "/models/blanks",
            {"inputs": "a", "parameters": {"top_k": 0}},
            422,
            "top_k is 0; it must be a whole number of at least 1",
        ),
        ("/models/blanks", {"inputs": "a", "parameters": {"top_k": "3"}}, 422, "top_k is '3'"),
        ("/models/blanks", {"inputs": ["a"] * 5}, 413, "at most 4 are taken at once"),
        ("/models/blanks", {"inputs": "a" * 6000}, 413, "larger than 5000 bytes"),
        (
            "/models/absent",
            {"inputs": "a"},
            503,
            "absent is not ready: absent@v1 was not loaded: probe answers are not finite",
        ),
        ("/nowhere", {"inputs": "a"}, 404, "there is nothing at /nowhere"),
        ("/models", {"inputs": "a"}, 405, "POST is not answered at /models"),
    ],
)
def test_what_cannot_be_answered_gets_one_sentence(url: str, path: str, body, status: int, says: str) -> None:
    got, answer, _ = post(f"{url}{path}", body)
    assert (got, set(answer)) == (status, {"error", "error_type"})
    assert says in answer["error"]
    assert "\n" not in answer["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"inputs": "\xff"}'])
def test_a_body_that_is_not_json_is_refused(url: str, body: bytes) -> None:
    import httpx

    response = httpx.post(f"{url}/models/blanks", content=body)
    assert (response.status_code, response.json()["error_type"]) == (400, "validation")


def test_a_post_without_a_content_type_is_read(url: str) -> None:
    import httpx

    response = httpx.post(f"{url}/models/blanks", content=json.dumps({"inputs": "a"}).encode())
    assert response.status_code == 200


def test_an_endless_body_is_answered_at_the_limit(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /models/blanks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall((b"1000\r\n" + b"a" * 4096 + b"\r\n") * 2)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_health_is_ready_only_when_every_model_answers(url: str) -> None:
    status, body, _ = call(f"{url}/health", timeout_seconds=10)
    assert (status, body["status"]) == (503, "starting")
    assert body["models"]["blanks"] == {"ready": True, "version": 1, "problem": None}
    assert "not finite" in body["models"]["absent"]["problem"]
    assert call(f"{url}/models/blanks/health", timeout_seconds=10)[0] == 200
    assert call(f"{url}/models/nobody/health", timeout_seconds=10)[0] == 404
    with pytest.raises(SmokeFailure, match="not ready"):
        smoke_test(url)


def test_models_and_info_describe_what_is_served(url: str) -> None:
    _, models, _ = call(f"{url}/models", timeout_seconds=10)
    assert [(m["name"], m["ready"]) for m in models] == [
        ("blanks", True),
        ("topics", True),
        ("absent", False),
    ]
    assert models[1]["labels"] == ["a", "b"]
    assert models[1]["scores"] == {"accuracy": 0.5}
    assert call(f"{url}/models/topics", timeout_seconds=10)[1] == models[1]
    info = call(f"{url}/models/topics/info", timeout_seconds=10)[1]
    assert info["queue"]["queued_tokens"] == 0
    assert info["limits"]["texts"] == 4


def test_the_page_comes_from_here_and_allows_nothing_from_elsewhere(url: str) -> None:
    import httpx

    page = httpx.get(url)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for name, kind in (("style.css", "text/css"), ("playground.js", "text/javascript")):
        file = httpx.get(f"{url}/page/{name}")
        assert (file.status_code, file.headers["content-type"].split(";")[0]) == (200, kind)
        assert f"/page/{name}" in page.text
        assert "//" not in file.text.replace("// ", "")
    assert httpx.get(f"{url}/page/../app.py").status_code == 404


def test_overload_is_429_and_says_when_to_come_back(store: Folder) -> None:
    register(store, "blanks", "aa")
    promote(store, "blanks", 1)
    desk = desk_of(store, "blanks", batcher=Batcher(max_batch_tokens=2, max_queued_tokens=4))
    predictor = desk.models["blanks"].current.predictor
    hold = threading.Event()
    predictor.run = lambda items: (hold.wait(10), Words.run(predictor, items))[1]
    with served(desk) as url, ThreadPoolExecutor(8) as pool:
        requests = [pool.submit(post, f"{url}/models/blanks", {"inputs": "a b"}) for _ in range(8)]
        while sum(r.done() for r in requests) < 6:
            pass
        hold.set()
        answers = [request.result() for request in requests]
        assert sorted(status for status, _, _ in answers) == [200] * 2 + [429] * 6
        _, body, headers = next(a for a in answers if a[0] == 429)
        assert body["error_type"] == "overloaded"
        assert headers["retry-after"] == "1"
        assert headers["ratelimit"] == '"serve";r=0;t=1'
        assert post(f"{url}/models/blanks", {"inputs": "a b"})[0] == 200
        status, body, _ = post(f"{url}/models/blanks", {"inputs": "a b c d e"})
        assert (status, body["error_type"]) == (413, "validation")


def test_requests_together_share_batches(store: Folder) -> None:
    register(store, "blanks", "aa")
    promote(store, "blanks", 1)
    desk = desk_of(store, "blanks")
    predictor = desk.models["blanks"].current.predictor
    predictor.seconds = 0.05
    with served(desk) as url, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(f"{url}/models/blanks", {"inputs": "a"})[0], range(32)))
    assert answers == [200] * 32
    assert sum(predictor.batches) == 32
    assert len(predictor.batches) < 16


def test_an_unexpected_error_is_500_without_its_details(store: Folder) -> None:
    register(store, "blanks", "aa")
    promote(store, "blanks", 1)
    desk = desk_of(store, "blanks")

    def broken(items):
        raise ZeroDivisionError("secret")

    desk.models["blanks"].current.predictor.run = broken
    with served(desk) as url:
        status, body, _ = post(f"{url}/models/blanks", {"inputs": "a"})
    assert (status, body["error_type"]) == (500, "generation")
    assert "secret" not in body["error"]


def test_the_smoke_test_asks_every_model(store: Folder) -> None:
    for name in ("blanks", "topics"):
        register(store, name, "aa")
        promote(store, name, 1)
    with served(desk_of(store, "blanks", "topics")) as url:
        samples = smoke_test(url)
    assert [(s.model, s.version, s.best, s.score) for s in samples] == [
        ("blanks", "1", "aa", 1.0),
        ("topics", "1", "b", 0.75),
    ]
    assert samples[0].curl.startswith("curl -s http://127.0.0.1:")
    with pytest.raises(SmokeFailure, match="is the server running"):
        smoke_test(url)


def test_the_hugging_face_client_reads_it_all(url: str) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    from huggingface_hub.errors import HfHubHTTPError

    blanks, topics = (
        hub.InferenceClient(f"{url}/models/blanks"),
        hub.InferenceClient(f"{url}/models/topics", token="t"),
    )
    [guess] = blanks.fill_mask("a [MASK].")
    assert (guess.token_str, guess.score, guess.token) == ("blanks-digest", 1.0, 7)
    assert len(blanks.fill_mask("a [MASK].", top_k=3, targets=["x"])) == 3
    labels = topics.text_classification("hi", top_k=2)
    assert [(x.label, x.score) for x in labels] == [("b", 0.75), ("a", 0.25)]
    with pytest.raises(HfHubHTTPError, match="it must be a whole number of at least 1"):
        blanks.fill_mask("a [MASK].", top_k=-1)
