"""From a name and a split to images in memory."""

import dataclasses
import os
import pathlib
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfeffi.data import fashion_mini, prepared, splits
from tfeffi.data.images import DataError, Images
from tfeffi.errors import BadInput

_READ_AT_ONCE = 256  # images


def load(
    name: str = fashion_mini.NAME,
    split: str = "train",
    *,
    data_dir: str | os.PathLike | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> Images:
    """Reads a data set into memory.

    Args:
        name: "fashion_mini" (in the package), or any image-classification set of TFDS that is
            prepared on this machine; tfeffi-fetch-data prepares cifar10, mnist, fashion_mnist.
        split: in TFDS's language: "train", "train[:90%]", "train[5000:]+test".
        data_dir: where TFDS's data sets lie; by default TFDS_DATA_DIR or ~/tensorflow_datasets.
        image_size: (height, width) or one number for both; images are resized (bilinear,
            antialiased) until they cover it and cropped in the middle. Needed if they differ.

    Returns:
        The images, in the order in which TFDS keeps them.

    Raises:
        DataError: an unknown name or split, an empty split, labels out of range, images that
            differ in size, more than memory holds, a set that is not for classification.
        NotPrepared: nothing is downloaded here; the message names the command that does.

    Example:
        train, test = load("cifar10", "train"), load("cifar10", "test")
    """
    size = _size(image_size)
    if name == fashion_mini.NAME:
        infos = fashion_mini.split_infos()
        spans = splits.resolve(name, split, infos)
        shape = (size or fashion_mini.SHAPE[:2]) + fashion_mini.SHAPE[2:]
        _check_memory(name, split, sum(stop - start for _, start, stop in spans), shape)
        images, labels = fashion_mini.read(spans)
        if images.shape[1:] != shape:
            images = _fill(_resized_batches(images, size), len(images), shape)
        return Images(images, labels, 10, fashion_mini.CLASS_NAMES, name, str(split))
    with prepared.quiet():
        return _load_prepared(prepared.prepared_builder(name, data_dir), name, str(split), size)


# ---------------------------------------------------------------- through TFDS


def _load_prepared(builder, name: str, split: str, size: tuple[int, int] | None) -> Images:
    count = sum(stop - start for _, start, stop in splits.resolve(name, split, builder.info.splits))
    image_key, label_key = _keys(name, builder.info)
    feature, classes = builder.info.features[image_key], builder.info.features[label_key]
    why = prepared.damage(builder)
    if why:
        raise prepared.damaged(builder, why)
    import tensorflow as tf

    try:
        examples = builder.as_dataset(split=split, shuffle_files=False).map(
            lambda example: (example[image_key], example[label_key]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        labels = np.empty(count, np.int64)
        images = _read(examples, labels, name, split, feature.shape, size)
    except (tf.errors.OpError, OSError, EOFError) as error:
        raise prepared.damaged(builder, str(error).split("[[")[0].strip()) from error
    return Images(images, labels, classes.num_classes, tuple(map(str, classes.names)), name, split)


def _read(examples, labels, name, split, shape, size) -> np.ndarray:
    """Reads all examples; fills `labels`, returns the images."""
    import tensorflow as tf

    if size is not None:
        examples = examples.map(lambda x, y: (resize(x, size), y), tf.data.AUTOTUNE)
        shape = (*size, shape[-1])
    if None in shape:  # known from the first image; the others must be like it
        shape = tuple(next(iter(examples.take(1)))[0].shape)
        step = 1
    else:
        step = _READ_AT_ONCE
    _check_memory(name, split, len(labels), shape)

    def batches():
        start = 0
        for images, classes in examples.batch(step).prefetch(2).as_numpy_iterator():
            if images.shape[1:] != shape:
                raise DataError(
                    f'data set "{name}": images differ in size, {_times(shape)} and '
                    f"{_times(images.shape[1:])}; give image_size, e.g. image_size=224"
                )
            labels[start : start + len(classes)] = classes[: len(labels) - start]
            start += len(classes)
            yield images

    return _fill(batches(), len(labels), shape)


def _fill(batches, count: int, shape: tuple[int, ...]) -> np.ndarray:
    images, start = np.empty((count, *shape), np.uint8), 0
    for batch in batches:
        if start + len(batch) > count:
            raise OSError(f"more than {count} examples")
        images[start : start + len(batch)] = batch
        start += len(batch)
    if start != count:
        raise OSError(f"{start} of {count} examples")
    return images


def _keys(name: str, info) -> tuple[str, str]:
    """The features that hold the image and its class."""
    import tensorflow_datasets as tfds

    features = dict(info.features.items()) if hasattr(info.features, "items") else {}
    keys = info.supervised_keys
    if not (keys and len(keys) == 2 and all(key in features for key in keys)):
        images = [k for k, f in features.items() if type(f) is tfds.features.Image]
        labels = [k for k, f in features.items() if type(f) is tfds.features.ClassLabel]
        keys = (images[0], labels[0]) if len(images) == len(labels) == 1 else None
    if keys is None or not (
        isinstance(features[keys[0]], tfds.features.Image)
        and isinstance(features[keys[1]], tfds.features.ClassLabel)
        and features[keys[1]].num_classes
    ):
        held = ", ".join(f"{k} ({type(f).__name__})" for k, f in features.items())
        raise DataError(
            f'data set "{name}" is not for image classification: it holds {held}; '
            "one Image and one ClassLabel with names are needed"
        )
    if features[keys[0]].np_dtype != np.uint8:
        raise DataError(
            f'data set "{name}": its images are {np.dtype(features[keys[0]].np_dtype)}; '
            "only uint8 images can be used"
        )
    return keys


# ---------------------------------------------------------------- size and memory


def resize(images, size: tuple[int, int]):
    """Resizes an image or a batch to cover `size` (bilinear, antialiased) and crops the middle.

    Args:
        images: uint8 tensor (..., height, width, channels).
        size: (height, width) wanted.

    Returns:
        uint8 tensor (..., *size, channels).
    """
    import tensorflow as tf

    old = tf.cast(tf.shape(images)[-3:-1], tf.float64)
    scale = tf.reduce_max(tf.constant(size, tf.float64) / old)
    new = tf.maximum(tf.cast(tf.round(old * scale), tf.int32), size)
    large = tf.image.resize(images, new, antialias=True)
    start = (new - size) // 2
    large = large[..., start[0] : start[0] + size[0], start[1] : start[1] + size[1], :]
    large = tf.ensure_shape(large, (*images.shape[:-3], *size, images.shape[-1]))
    return tf.cast(tf.clip_by_value(tf.round(large), 0, 255), tf.uint8)


def resized(data: Images, size: tuple[int, int]) -> Images:
    """The same images in another size, (height, width); made once as long as `data` lives."""
    size = tuple(size)
    if size == data.images.shape[1:3]:
        return data
    made = _made.setdefault(data, {})
    if size not in made:
        shape = (*size, data.images.shape[3])
        pixels = _fill(_resized_batches(data.images, size), len(data), shape)
        made[size] = dataclasses.replace(data, images=pixels)
    return made[size]


_made: weakref.WeakKeyDictionary[Images, dict] = weakref.WeakKeyDictionary()


def _resized_batches(images: np.ndarray, size: tuple[int, int]):
    parts = (
        images[start : start + _READ_AT_ONCE] for start in range(0, len(images), _READ_AT_ONCE)
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda part: resize_numpy(part, size), parts)


def resize_numpy(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`resize` of a NumPy array."""
    import tensorflow as tf

    return resize(tf.constant(images), size).numpy()


def _size(image_size) -> tuple[int, int] | None:
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise BadInput(f"image_size={image_size!r} must be a number of pixels, or (height, width)")
    return size


def _check_memory(name: str, split: str, count: int, shape: tuple[int, ...]) -> None:
    """Refuses what would need more than half of the free memory: a pipeline keeps a second copy."""
    needed, free = count * int(np.prod(shape, dtype=object)), free_memory()
    if needed > free / 2:
        fits = free // 2 // (needed // count)
        part = f'a part, e.g. "{split.partition("[")[0]}[:{fits}]", or ' if fits else ""
        raise DataError(
            f'data set "{name}", split "{split}": {count} images of {_times(shape)} need '
            f"{2 * needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; take {part}"
            "a smaller image_size"
        )


def free_memory() -> int:
    """Bytes that may still be used, by the machine and by the container."""
    free = []
    try:
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                free.append(1024 * int(line.split()[1]))
        group = pathlib.Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free.append(most - int(stat["anon"]))  # the rest of what is used is file cache
    except (OSError, ValueError, KeyError):  # no such file, or "max": no limit
        pass
    if not free:
        free.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return max(min(free), 0)


def _times(shape) -> str:
    return "x".join(map(str, shape))
