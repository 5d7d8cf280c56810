"""Test-time augmentation inside the file: it looks at an image several times and averages."""

import keras

from tfeffi.errors import BadInput, near
from tfeffi.train.evaluation import average, seen
from tfeffi.train.settings import VIEWS

_SMALLEST = 2  # pixels, for an edge to be reflected


def of_views(model: keras.Model, views: str) -> keras.Model:
    """The model that sees all views of its image as one batch, and averages what it says.

    Args:
        model: a classifier of one image (height, width, channels).
        views: of `train.evaluation.seen`.

    Raises:
        BadInput: no such views, or a model that does not look at one image or says more than one vector
            of it: what a mirrored image is turned into would have to be mirrored back.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural
    networks", section 4.1.
    """
    check_views(views)
    if views == "one":
        return model
    shapes = [[tuple(tensor.shape) for tensor in end] for end in (model.inputs, model.outputs)]
    if [[len(shape) for shape in end] for end in shapes] != [[4], [2]]:
        raise BadInput(
            f'export: views="{views}" needs a classifier, from one image to (batch, classes); this '
            f"model reads {shapes[0]} and gives {shapes[1]}"
        )
    source = model.inputs[0]
    if views != "flip" and min(size or _SMALLEST for size in source.shape[1:3]) < _SMALLEST:
        raise BadInput(f'export: views="{views}" moves images, {source.shape[1:]} is too small')
    image = keras.Input(source.shape[1:], dtype=source.dtype, name=source.name)
    looks = seen(image, views)
    stacked = keras.tree.pack_sequence_as(model.input, [keras.ops.concatenate(looks, axis=0)])
    outputs = keras.tree.flatten(model(stacked))[0]
    outputs = keras.ops.reshape(outputs, (len(looks), -1, *outputs.shape[1:]))
    return keras.Model(image, average(outputs), name=model.name)


def check_views(views: str) -> None:
    """Raises BadInput unless there are such views."""
    if views not in VIEWS:
        raise BadInput(f'export: views="{views}" is not known; {near(str(views), VIEWS)}')
