"""What a layer computes from its variables and keeps: it must follow when they are assigned."""

import keras


def renew(model: keras.Model) -> None:
    """Makes a model follow its variables after they were assigned from outside.

    `keras.layers.Normalization` computes with copies of its mean and variance, which it makes when it
    is built, adapted or loaded from a file, and at no other time.

    Args:
        model: whose variables were assigned, nested models and wrapped layers included.
    """
    for layer in inside(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def inside(layer: keras.Layer) -> list[keras.Layer]:
    """A layer and all layers that it holds, at any depth, each before those inside it."""
    return layer._flatten_layers()  # a wrapper or a layer of one's own does not list them publicly
