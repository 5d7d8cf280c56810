"""Files that are whole or absent: written under a temporary name, then renamed."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator

from tfeffi.errors import BadInput


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, with its suffix; renames it on success, else removes it.

    Example:
        with replacing("m.tflite") as temporary:
            temporary.write_bytes(content)
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def refuse_existing(path: str | os.PathLike, what: str = "output") -> None:
    """Raises BadInput if `path` exists: nothing finished is overwritten."""
    if pathlib.Path(path).exists():
        raise BadInput(f'{what} "{path}" exists already; remove it or name another')


def is_older(made: str | os.PathLike, source: str | os.PathLike) -> bool:
    """Whether a file is missing or was written before the one that it is made from."""
    made, source = pathlib.Path(made), pathlib.Path(source)
    return not made.exists() or made.stat().st_mtime_ns < source.stat().st_mtime_ns


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
