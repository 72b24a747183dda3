"""Files of finished results in a known order, the next ones fetched and verified while one is used.

    yielded        a.arrow ............ b.arrow ............ c.arrow ...
    in threads     b, c                 d (c is there)       e

Each file comes through the store's own repetition of failed requests into the download cache (remote stores), is
verified once per process there in the thread, and is held until the next one is asked for; then it may leave the cache.
So a corpus of any size streams through a cache of a stated size. What fails is raised where its file would have come.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from infra import download_cache
from infra.artifacts import Artifact

ATTEMPTS = 5  # to hold a copy which other processes on this machine remove from a cache that is too small


@dataclass(frozen=True, kw_only=True)
class _Coming:
    artifact: Artifact
    name: str
    size: int
    fetched: "Future[tuple[Path, ExitStack]]"


def read_ahead(
    artifact: Artifact, names: Iterable[str], *, ahead: int = 2, ahead_bytes: int | None = None
) -> Iterator[tuple[str, Path]]:
    """(name, path) of one artifact's files, in the order given; see `read_files_ahead`."""
    files = ((artifact, name) for name in names)
    with closing(read_files_ahead(files, ahead=ahead, ahead_bytes=ahead_bytes)) as found:
        for _, name, path in found:
            yield name, path


def read_files_ahead(
    files: Iterable[tuple[Artifact, str]], *, ahead: int = 2, ahead_bytes: int | None = None
) -> Generator[tuple[Artifact, str, Path], None, None]:
    """(artifact, name, local path) of each file, in the order given; `files` may be endless, it is asked as needed.

    At most `ahead` files and `ahead_bytes` (None: half of the cache) are fetched beyond the one in use. A path holds
    until the next file is asked for; what is open or mapped by then stays readable. Raises, at the file's turn,
    FileNotFoundError, CorruptFile or StoreUnreachable. Closing the iterator cancels what has not begun and waits for
    nothing.
    """
    if ahead < 1:
        raise ValueError(f"ahead is {ahead}; give at least 1 file to fetch while another is used")
    if ahead_bytes is None:
        ahead_bytes = download_cache.limit_bytes() // 2
    source = iter(files)
    following = next(source, None)
    coming: deque[_Coming] = deque()
    pool = ThreadPoolExecutor(ahead, thread_name_prefix="read-ahead")
    try:
        while coming or following:
            while following and len(coming) <= ahead:
                size = _size(*following)
                if coming and sum(c.size for c in list(coming)[1:]) + size > ahead_bytes:
                    break
                fetched = pool.submit(_fetch, *following)
                coming.append(_Coming(artifact=following[0], name=following[1], size=size, fetched=fetched))
                following = next(source, None)
            path, hold = coming[0].fetched.result()
            now = coming.popleft()
            with hold:
                yield now.artifact, now.name, path
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for left in coming:
            left.fetched.add_done_callback(_let_go)


def _size(artifact: Artifact, name: str) -> int:
    try:
        return artifact.entry(name).size
    except FileNotFoundError:
        return 0  # it is reported when its turn comes


def _fetch(artifact: Artifact, name: str) -> tuple[Path, ExitStack]:
    """A verified local path, held."""
    for _ in range(ATTEMPTS):
        path = artifact.path(name)
        with ExitStack() as stack:
            try:
                stack.enter_context(download_cache.held(path))
            except FileNotFoundError:
                continue
            return path, stack.pop_all()
    raise OSError(
        f"{name} of {artifact.short} was removed from the cache {ATTEMPTS} times before it could be used; "
        f"set CLOZE_CACHE_GB to more than {download_cache.limit_bytes() / 1e9:g}"
    )


def _let_go(fetched: "Future[tuple[Path, ExitStack]]") -> None:
    if not fetched.cancelled() and fetched.exception() is None:
        fetched.result()[1].close()
