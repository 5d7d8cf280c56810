"""The record that every room passes around: images and their labels, in memory, checked once."""

import dataclasses

import numpy as np

from tfeffi.errors import BadInput


class DataError(BadInput):
    """Data that cannot be used; the message says which, why, and what to do."""


class NotPrepared(DataError):
    """The data set is known, but not on this machine yet, or damaged."""


class WrongArchive(DataError):
    """An archive that is truncated, or holds something else than it should."""


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one size.

    Args:
        images: uint8 (n, height, width, channels), n ≥ 1.
        labels: int64 (n,), each in [0, num_classes).
        num_classes: how many classes there are, also if some do not occur here.
        class_names: one name a class.
        name: of the data set.
        split: which part of it, in TFDS's language, e.g. "train[:90%]".
        targets: float16 (n, views, num_classes), what is to be learnt in place of the labels: class
            probabilities of each view that an augmentation makes (`compress.taught`); or None.
        seen: which augmentation makes those views, `Augment.kind`; None where there is one view.

    Raises:
        DataError: no images, another type or shape, a label out of range.

    Example:
        mine = Images.from_arrays(pixels, labels, class_names=("cat", "dog"))
        small = mine[:100]
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    class_names: tuple[str, ...]
    name: str
    split: str
    targets: np.ndarray | None = None
    seen: tuple | None = None

    def __post_init__(self):
        where = f'data set "{self.name}", split "{self.split}"'
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.ndim != 4 or images.dtype != np.uint8:
            raise DataError(
                f"{where}: images must be uint8 of shape (n, height, width, channels), "
                f"not {images.dtype} {images.shape}"
            )
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{where}: labels must be {len(images)} whole numbers, one an image, "
                f"not {labels.dtype} {labels.shape}"
            )
        if not images.size:
            raise DataError(f"{where} is empty; give a split that holds images")
        if len(self.class_names) != self.num_classes:
            raise DataError(
                f"{where}: {len(self.class_names)} class names for {self.num_classes} classes"
            )
        check_labels(labels, self.num_classes, where)
        if self.targets is not None:
            object.__setattr__(self, "targets", np.asarray(self.targets))
            _check_targets(self.targets, (len(images), self.num_classes), where)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int64, copy=False))

    @classmethod
    def from_arrays(
        cls, images, labels, class_names=None, *, name: str = "arrays", split: str = "train"
    ) -> "Images":
        """Your own images, without TFDS.

        Args:
            images: uint8 (n, height, width, channels).
            labels: (n,) whole numbers from 0 on.
            class_names: one name a class; by default the numbers 0 … largest label.
        """
        labels = np.asarray(labels)
        if class_names is None:
            class_names = map(str, range(int(labels.max(initial=0)) + 1))
        class_names = tuple(class_names)
        return cls(np.asarray(images), labels, len(class_names), class_names, name, split)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice | np.ndarray) -> "Images":
        """The images of a slice, of an array of indices, or of a boolean mask."""
        if not isinstance(which, slice):
            which = np.asarray(which)
            if which.ndim != 1:
                raise DataError(
                    f'data set "{self.name}": index with a slice or an array of indices'
                )
        targets = None if self.targets is None else self.targets[which]
        return dataclasses.replace(
            self, images=self.images[which], labels=self.labels[which], targets=targets
        )

    def with_targets(self, targets: np.ndarray, seen: tuple | None = None) -> "Images":
        """The same images with what is to be learnt in place of their labels."""
        return dataclasses.replace(self, targets=targets, seen=seen)

    def take(self, count: int) -> "Images":
        """The first `count` images, or all if there are fewer."""
        return self[:count]

    def __repr__(self) -> str:
        n, *shape = self.images.shape
        size = "x".join(map(str, shape))
        return f"Images({self.name} {self.split}: {n} of {size}, {self.num_classes} classes)"


def _check_targets(targets: np.ndarray, size: tuple[int, int], where: str) -> None:
    if targets.ndim != 3 or targets.shape[::2] != size or targets.dtype != np.float16:
        raise DataError(
            f"{where}: targets must be float16 of shape ({size[0]}, views, {size[1]}), not "
            f"{targets.dtype} {targets.shape}"
        )


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Raises DataError if a label is outside [0, num_classes); `where` begins the message."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        hint = "; -1 means that the split has no labels" if labels[wrong[0]] == -1 else ""
        raise DataError(
            f"{where}: label {labels[wrong[0]]} of image {wrong[0]} is not one of the "
            f"{num_classes} classes 0 … {num_classes - 1}{hint}"
        )
