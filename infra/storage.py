"""The store: a local folder or S3, chosen by a url, with the same promises on both (folder.py).

Import everything about stores from here.
"""

from pathlib import Path

from infra.folder import Folder, StoreFull, StoreUnreachable
from infra.folder_local import LocalFolder
from infra.folder_s3 import S3Folder

__all__ = ["Folder", "LocalFolder", "S3Folder", "StoreFull", "StoreUnreachable", "open_folder"]


def open_folder(url: str | Path) -> Folder:
    """The folder at `url`: a path, "file:///path" or "s3://bucket/prefix". Nothing is created or contacted yet."""
    text = str(url)
    scheme, separator, rest = text.partition("://")
    if scheme == "s3" and separator:
        bucket, _, prefix = rest.partition("/")
        return S3Folder(bucket, prefix.strip("/"))
    if separator and (scheme != "file" or not rest.startswith("/")):
        raise ValueError(
            f"store {text!r} is of no kind we know; give a folder, file:///folder or s3://bucket/prefix"
        )
    path = Path(rest if separator else text).expanduser()
    if not text.strip() or path.is_file():
        raise ValueError(
            f"store {text!r} is not a folder; give a folder (it need not exist yet) or s3://bucket/prefix"
        )
    return LocalFolder(path)
