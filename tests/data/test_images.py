"""What the record of images promises and refuses."""

import numpy as np
import pytest

from tfeffi.data import DataError, Images

PIXELS = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3, 1)


def test_slices_and_indices_keep_images_and_labels_together():
    data = Images.from_arrays(PIXELS, [0, 1, 2, 1, 0], class_names=("a", "b", "c"))
    assert len(data) == 5 and data.num_classes == 3 and data.labels.dtype == np.int64
    for part, where in ((data[1:4], [1, 2, 3]), (data[np.array([4, 0])], [4, 0]),
                        (data[data.labels == 1], [1, 3]), (data.take(2), [0, 1]),
                        (data.take(99), range(5))):  # fmt: skip
        np.testing.assert_array_equal(part.images, PIXELS[list(where)])
        np.testing.assert_array_equal(part.labels, data.labels[list(where)])
        assert part.class_names == ("a", "b", "c")
    assert "5 of 2x3x1, 3 classes" in repr(data)


def test_class_names_default_to_numbers():
    assert Images.from_arrays(PIXELS, [0, 3, 0, 0, 0]).class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [0, 1, 2, 1, 3]}, "label 3 of image 4 is not one of the 3 classes 0 … 2"),
        ({"labels": [0, -1, 2, 1, 0]}, "label -1 of image 1 .* -1 means that the split has no"),
        ({"labels": [0, 1]}, "labels must be 5 whole numbers"),
        ({"labels": [0.0, 1, 2, 1, 0]}, "labels must be 5 whole numbers, .* float64"),
        ({"images": PIXELS / 255}, "images must be uint8 .* not float64"),
        ({"images": PIXELS[..., 0]}, r"not uint8 \(5, 2, 3\)"),
        ({"images": PIXELS[:0], "labels": np.zeros(0, int)}, "is empty"),
    ],
)
def test_what_cannot_be_used_is_refused(change, words):
    good = {"images": PIXELS, "labels": [0, 1, 2, 1, 0], "class_names": "abc", "name": "mine"}
    Images.from_arrays(**good)
    with pytest.raises(DataError, match=words) as caught:
        Images.from_arrays(**{**good, **change})
    assert '"mine"' in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_slice_is_refused():
    with pytest.raises(DataError, match="empty"):
        Images.from_arrays(PIXELS, [0] * 5)[5:]
