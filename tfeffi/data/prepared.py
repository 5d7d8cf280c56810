"""Opens data sets that TFDS has on this machine, and never lets it download one by itself."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from absl import logging

from tfeffi.data import sources
from tfeffi.data.images import DataError, NotPrepared
from tfeffi.errors import near

_RECORD_OVERHEAD = 16  # bytes a TFRecord adds to each example: its length and two checksums


def builder(name: str, data_dir: str | os.PathLike | None = None):
    """The TFDS builder of a data set, prepared or not.

    Args:
        name: as in `tfds.load`: "cifar10", "cifar10:3.0.2", "name/config".
        data_dir: where prepared data sets lie; by default TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
        DataError: TFDS does not know the name (near ones are listed) or cannot open it.
    """
    import tensorflow_datasets as tfds

    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    plain, _, version = str(name).partition(":")
    if not plain or (version and not version[0].isdigit()):  # "huggingface:x" would use the network
        raise _unknown(name)
    try:
        with quiet():
            return tfds.builder(str(name), data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name) from error
    except Exception as error:  # each of TFDS's builders may fail in its own way
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = lines[0].rpartition('}": ')[2]  # TFDS puts its own call in front
        raise DataError(f'data set "{name}": TFDS cannot open it: {why}') from error


def prepared_builder(name: str, data_dir: str | os.PathLike | None = None):
    """The TFDS builder of a data set that lies ready on this machine.

    Raises:
        NotPrepared: it does not; the message names the command that prepares it.
        DataError: TFDS does not know it.
    """
    made = builder(name, data_dir)
    if not is_prepared(made):
        raise NotPrepared(
            f'data set "{name}" is not prepared in {made.data_dir}; '
            f"run: {_command(made.name, data_dir)}"
        )
    return made


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS from telling each thing it does; its errors still come as exceptions."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def is_prepared(made) -> bool:
    """Whether a builder's folder is there; TFDS and fetch both give it its name when it is whole."""
    return (made.data_path / "dataset_info.json").exists()


def damage(made, *, sizes: bool = False) -> str | None:
    """What is wrong with the files of a prepared data set, or None.

    Args:
        made: its builder.
        sizes: whether the files must have the bytes that `store_as_tfds_dataset` wrote.
    """
    for info in made.info.splits.values():
        missing = [path for path in info.filepaths if not path.exists()]
        if missing:
            return f"{missing[0].name} is missing"
        there = sum(os.path.getsize(path) for path in info.filepaths) if sizes else 0
        wanted = int(info.num_bytes) + _RECORD_OVERHEAD * info.num_examples
        if sizes and there != wanted:
            return f"split {info.name} has {there} of {wanted} bytes"
    return None


def damaged(made, why: str) -> NotPrepared:
    """The error for a prepared data set that cannot be read."""
    command = _command(made.name, pathlib.Path(made.data_dir).parents[1])
    return NotPrepared(
        f'data set "{made.name}" in {made.data_dir} is damaged ({why}); remove that folder and '
        f"run: {command}"
    )


def _command(name: str, data_dir) -> str:
    where = f" --data_dir={data_dir}" if data_dir is not None else ""
    if name in sources.SOURCES:
        return f"tfeffi-fetch-data --dataset={name}{where}"
    return f"tfds build {name}{where} (it needs the internet)"


def _unknown(name: str) -> DataError:
    import tensorflow_datasets as tfds

    names = {"fashion_mini", *sources.SOURCES, *tfds.list_builders(with_community_datasets=False)}
    hint = near(str(name), names)
    if hint.startswith("known"):
        hint = "fashion_mini needs no download; tensorflow_datasets.list_builders() lists the rest"
    return DataError(f'data set "{name}" is not known; {hint}')
