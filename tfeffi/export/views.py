"""Test-time augmentation inside the file: it looks at an image several times and averages."""

import keras

from tfeffi.errors import BadInput, near
from tfeffi.train.evaluation import averaged
from tfeffi.train.settings import VIEWS


def of_views(model: keras.Model, views: str) -> keras.Model:
    """The model that averages its outputs over views of its image; the weights are there once.

    Args:
        model: of one image (height, width, channels), with one output.
        views: of `train.evaluation.averaged`.

    Raises:
        BadInput: no such views, or a model that does not look at one image.

    Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural
    networks", section 4.1.
    """
    if views not in VIEWS:
        raise BadInput(f'export: views="{views}" is not known; {near(str(views), VIEWS)}')
    if views == "one":
        return model
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.inputs[0].shape) != 4:
        raise BadInput(
            f'export: views="{views}" needs a model of one image and one output; this one reads '
            f"{[tuple(t.shape) for t in model.inputs]} and gives {len(model.outputs)}"
        )
    source = model.inputs[0]
    image = keras.Input(source.shape[1:], dtype=source.dtype, name=source.name)
    return keras.Model(image, averaged(model, image, views), name=model.name)
