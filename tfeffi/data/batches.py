"""The input pipeline: tf.data batches out of memory, cheap enough never to keep a step waiting.

The images stay in memory as one uint8 tensor. A batch is a few vectorised operations on all of its
images at once, and depends on nothing but (seed, epoch, step): a resumed run sees the very same
batches, whichever step it starts from.
"""

import dataclasses
import itertools
import weakref
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfeffi.data.images import Images
from tfeffi.errors import BadInput

_NUDGE = 0.25  # pixels; see _window
_LARGEST = 2**31
ALTERNATE = "alternate"
_AT_ONCE = 5000  # images
_resident: weakref.WeakKeyDictionary[Images, tuple] = weakref.WeakKeyDictionary()


def _whole(value, least: int = 0) -> bool:
    return (
        isinstance(value, int | np.integer)
        and not isinstance(value, bool)
        and least <= value < _LARGEST
    )


@dataclasses.dataclass(frozen=True)
class Augment:
    """How training images are varied, each on its own, anew in every epoch.

    Args:
        crop: pad with so many black pixels on each side, crop to the old size at a random place
            (He et al. 2015, section 4.2: 4 for CIFAR).
        flip: True: mirror left and right with probability 1/2. "alternate": each image is drawn
            once, and from then on mirrored in every other epoch, so that two epochs show it from
            both sides (Jordan 2024, arXiv 2404.00498, section 3.6).
        translate: move by up to so many pixels each way, the edge reflected into the gap
            (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3.1: 2). Not together with
            crop, which moves the image too.

    Raises:
        BadInput: a negative number, an unknown flip, or crop and translate together.
    """

    crop: int = 0
    flip: bool | str = False
    translate: int = 0

    def __post_init__(self):
        for name in ("crop", "translate"):
            if not _whole(getattr(self, name)):
                raise BadInput(
                    f"augment {name}={getattr(self, name)!r} must be a number of pixels, 0 or more"
                )
        if self.flip not in (True, False, ALTERNATE):
            raise BadInput(f'augment flip={self.flip!r} must be True, False or "{ALTERNATE}"')
        if self.crop and self.translate:
            raise BadInput(
                f"augment crop={self.crop} and translate={self.translate} both move the image; "
                "set one of them to 0"
            )

    def __bool__(self) -> bool:
        return bool(self.crop or self.flip or self.translate)

    @property
    def views(self) -> int:
        """How many different views of an image there are: places, times two if it is mirrored."""
        return (2 * self._reach + 1) ** 2 * (2 if self.flip else 1)

    def view(self, moves, flipped):
        """The number of a view, in [0, views).

        Args:
            moves: int32 (n, 2), pixels down and right, from -reach to reach.
            flipped: bool (n,).
        """
        place = (moves[:, 0] + self._reach) * (2 * self._reach + 1) + moves[:, 1] + self._reach
        return 2 * place + tf.cast(flipped, tf.int32) if self.flip else place

    @property
    def kind(self) -> tuple | None:
        """What tells its views from those of another: the edges, how far, whether mirrored."""
        return (
            ("translate" if self.translate else "crop", self._reach, bool(self.flip))
            if self
            else None
        )

    @property
    def _reach(self) -> int:
        return self.crop or self.translate


def every_view(images: np.ndarray, augment: Augment) -> Iterator[np.ndarray]:
    """All that an augmentation can make of images, view by view, in the order of their numbers.

    Args:
        images: uint8 (n, height, width, channels).
        augment: at most so far as the images reach.

    Yields:
        uint8, the images' shape.
    """
    _check_reach(augment, images.shape)
    reach = range(-augment._reach, augment._reach + 1)
    for down, right in itertools.product(reach, reach):
        for flipped in (False, True)[: 2 if augment.flip else 1]:
            yield np.concatenate(
                [
                    _alike(images[start : start + _AT_ONCE], augment, (down, right), flipped)
                    for start in range(0, len(images), _AT_ONCE)
                ]
            )


def _alike(images: np.ndarray, augment: Augment, move: tuple[int, int], flipped: bool):
    """The images in one view, uint8."""
    moves, turned = tf.tile(tf.constant([move]), (len(images), 1)), tf.fill((len(images),), flipped)
    return tf.cast(_seen(tf.constant(images), augment, moves, turned), tf.uint8).numpy()


def pipeline(
    data: Images,
    batch_size: int,
    *,
    training: bool = False,
    seed: int = 0,
    epoch: int = 0,
    start_step: int = 0,
    augment: Augment = Augment(),
    drop_remainder: bool | None = None,
) -> tf.data.Dataset:
    """One epoch of batches.

    Args:
        data: the images; kept in memory as a tensor as long as `data` itself lives.
        batch_size: images a batch.
        training: shuffle by a permutation that depends on (seed, epoch) alone, and augment. Else
            the images come in order and unchanged.
        seed, epoch: choose order and augmentation.
        start_step: begin with this batch of the epoch: exactly its tail, at no cost.
        augment: used in training only.
        drop_remainder: leave out a last, smaller batch; by default if training.

    Returns:
        A tf.data.Dataset of (float32 (batch, height, width, channels) in [0, 1], int32 (batch,)). In
        training on images with targets, these come in place of labels: float32 (batch, classes).

    Raises:
        BadInput: a number out of range, or an augmentation too large for the images.

    Example:
        for images, labels in pipeline(data, 128, training=True, epoch=3):
            ...
    """
    drop_remainder = training if drop_remainder is None else drop_remainder
    _check_numbers(batch_size=batch_size, seed=seed, epoch=epoch, start_step=start_step)
    count = len(data)
    steps = count // batch_size if drop_remainder else -(-count // batch_size)
    _check_steps(count, batch_size, steps, start_step)
    _check_reach(augment, data.images.shape)
    _check_targets(data, augment, training)
    make = _batch_maker(data, batch_size, augment if training else Augment(), seed, epoch, training)
    options = tf.data.Options()  # one process: a distribution strategy splits the batches
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # There is nothing to tune, and on a busy machine an iterator's end was seen to wait for the
    # tuner to wake, at 10·2ⁿ ms: an epoch of 5.2 s took 10.2 s.
    options.autotune.enabled = False
    return (
        tf.data.Dataset.range(start_step, steps)
        .map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(4)
        .with_options(options)
    )


# ---------------------------------------------------------------- a batch


def _batch_maker(data, batch_size, augment, seed, epoch, training):
    count = len(data)
    even = count - count % batch_size  # if all batches are full, their size is static
    images, labels, targets = _in_memory(data)
    taught = training and targets is not None
    with tf.device("CPU:0"):
        order = tf.constant(_order(count, seed, epoch)) if training else None
        turned = tf.constant(_turned(count, seed, epoch)) if augment.flip == ALTERNATE else None

    def make(step):
        start = step * batch_size
        stop = tf.minimum(start + batch_size, count)
        if training:
            which = order[start:stop]
            pixels, classes = tf.gather(images, which), tf.gather(labels, which)
            view = tf.zeros_like(which)
        else:
            pixels, classes = images[start:stop], labels[start:stop]
        if augment:
            # two 64-bit numbers that no other (seed, epoch, step) gives
            key = tf.stack([int(seed) * _LARGEST + int(epoch), step])
            flipped = None if turned is None else tf.gather(turned, which)
            moves, flipped = _drawn(tf.shape(pixels)[0], augment, key, flipped)
            pixels = _seen(pixels, augment, moves, flipped)
            view = augment.view(moves, flipped)
        if taught:
            classes = tf.cast(tf.gather_nd(targets, tf.stack([which, view], 1)), tf.float32)
        pixels = tf.cast(pixels, tf.float32) / 255.0
        if even == count:
            pixels = tf.ensure_shape(pixels, (batch_size, *images.shape[1:]))
            classes = tf.ensure_shape(classes, (batch_size, *(targets.shape[2:] if taught else ())))
        return pixels, classes

    return make


def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)


def _turned(count: int, seed: int, epoch: int) -> np.ndarray:
    """Which images are mirrored in an epoch: half of them in the first, then each in turn."""
    first = np.random.default_rng([seed, _LARGEST]).random(count) < 0.5
    return first ^ bool(epoch % 2)


def _in_memory(data: Images) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Images, labels and targets as tensors in main memory (tf.data runs there), made once."""
    if data not in _resident:
        with tf.device("CPU:0"):
            targets = None if data.targets is None else tf.constant(data.targets)
            _resident[data] = tf.constant(data.images), tf.constant(data.labels, tf.int32), targets
    return _resident[data]


def _drawn(count: tf.Tensor, augment: Augment, key: tf.Tensor, flipped=None) -> tuple:
    """How far each of so many images is moved, int32 (n, 2), and which are mirrored, bool (n,)."""
    reach = augment._reach
    move_key, flip_key = key * [1, 2], key * [1, 2] + [0, 1]
    moves = tf.random.stateless_uniform((count, 2), move_key, -reach, reach + 1, tf.int32)
    if flipped is None and augment.flip:
        flipped = tf.random.stateless_uniform((count,), flip_key) < 0.5
    return moves, tf.fill((count,), False) if flipped is None else flipped


def _seen(images: tf.Tensor, augment: Augment, moves: tf.Tensor, flipped: tf.Tensor) -> tf.Tensor:
    """uint8 images moved and mirrored, each on its own; float32 in [0, 255]."""
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    moves = tf.cast(moves, tf.float32)
    if augment.translate:
        images, moves = _reflect_edges(images, augment.translate), moves + augment.translate
    top, bottom = _window(moves[:, 0], height, images.shape[1])
    left, right = _window(moves[:, 1], width, images.shape[2])
    if augment.flip:
        left, right = tf.where(flipped, right, left), tf.where(flipped, left, right)
    return tf.image.crop_and_resize(
        images, tf.stack([top, left, bottom, right], 1), tf.range(count), (height, width), "nearest"
    )


def _window(start: tf.Tensor, size: int, frame: int) -> tuple[tf.Tensor, tf.Tensor]:
    """First and last pixel of a window of `size` in `frame`, as crop_and_resize counts them.

    That operation moves and mirrors many images at once, several times faster than gathering
    pixels, and gives black outside of the frame. It works in float32: drawing the window in by a
    quarter pixel at either end keeps what is inside from being taken for outside by a rounding
    error, and changes no nearest pixel as long as windows reach out by no more than a quarter.
    """
    last = max(frame - 1, 1)
    return (start + _NUDGE) / last, (start + (size - 1) - _NUDGE) / last


def _reflect_edges(images: tf.Tensor, by: int) -> tf.Tensor:
    """Pads height and width by reflection. tf.pad does the same ten times slower."""
    for axis in (1, 2):
        size = images.shape[axis]
        before = tf.gather(images, np.arange(by, 0, -1), axis=axis)
        after = tf.gather(images, np.arange(size - 2, size - 2 - by, -1), axis=axis)
        images = tf.concat([before, images, after], axis)
    return images


# ---------------------------------------------------------------- bad input


def _check_numbers(**numbers) -> None:
    for name, value in numbers.items():
        least = 1 if name == "batch_size" else 0
        if not _whole(value, least):
            raise BadInput(
                f"pipeline {name}={value!r} must be a whole number from {least} to 2^31 - 1"
            )


def _check_steps(count: int, batch_size: int, steps: int, start_step: int) -> None:
    if not steps:
        raise BadInput(
            f"pipeline batch_size={batch_size} is larger than the {count} training images; "
            "make it smaller"
        )
    if start_step > steps:
        raise BadInput(f"pipeline start_step={start_step}: an epoch has {steps} steps")


def _check_targets(data: Images, augment: Augment, training: bool) -> None:
    if not training or data.targets is None:
        return
    if data.targets.shape[1] != augment.views or data.seen != augment.kind:
        raise BadInput(
            f"pipeline: the images have targets for {data.targets.shape[1]} views of {data.seen}, the "
            f"augmentation makes {augment.views} of {augment.kind}; make the targets with the same one"
        )


def _check_reach(augment: Augment, shape: tuple[int, ...]) -> None:
    reach, smaller = augment.crop or augment.translate, min(shape[1:3])
    if 4 * reach > smaller:
        name = "crop" if augment.crop else "translate"
        raise BadInput(
            f"augment {name}={reach} is too much for images of {shape[1]}x{shape[2]}; "
            f"at most {smaller // 4}"
        )
