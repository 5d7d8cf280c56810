"""Rebuilds a model with classes of its layers exchanged for faster ones that compute the same."""

import copy
from collections.abc import Mapping
from typing import Any

import keras

from tfeffi import derived
from tfeffi.errors import BadInput


def exchange(model: keras.Model, classes: Mapping[str, type[keras.Layer]]) -> keras.Model:
    """The same model with other classes in place of Keras's.

    Nested models, shared layers and wrapped ones are reached. Names, weights, random states,
    trainable flags and dtype policies stay; the compilation does not: compile the result.

    Args:
        model: a functional or Sequential model. It is left as it is and shares nothing with the
            result.
        classes: by the name of Keras's class a subclass of it, with the same config and variables.

    Returns:
        A new model.

    Raises:
        BadInput: the model is subclassed: its layers are made by its own code.
    """
    names = " and ".join(classes)
    if not isinstance(model, keras.Model):
        raise BadInput(f"fuse {names}: expected a keras.Model, not {model!r}")
    if not (isinstance(model, keras.Sequential) or hasattr(model, "operations")):
        raise BadInput(
            f'fuse {names}: model "{model.name}" is subclassed ({type(model).__name__}); use '
            f"{' and '.join(c.__name__ for c in classes.values())} in its code"
        )
    config = _exchanged(copy.deepcopy(model.get_config()), classes)
    custom = {kind.__name__: kind for kind in classes.values()}
    made = model.__class__.from_config(config, custom_objects=custom)
    for layer in model.layers:
        twin = made.get_layer(layer.name)
        for old, new in zip(layer.variables, twin.variables, strict=True):
            new.assign(old)
    derived.renew(made)
    _copy_trainable(model, made)
    return made


def _exchanged(config: Any, classes: Mapping[str, type[keras.Layer]]) -> Any:
    """The config of a model with the classes exchanged at any depth."""
    if isinstance(config, dict):
        config = {key: _exchanged(value, classes) for key, value in config.items()}
        kind = config.get("class_name")
        is_keras = str(config.get("module")).split(".")[0] == "keras"
        if is_keras and isinstance(kind, str) and kind in classes:
            name = classes[kind].__name__
            config.update(class_name=name, registered_name=name, module=None)
        return config
    if isinstance(config, (list, tuple)):
        return type(config)(_exchanged(value, classes) for value in config)
    return config


def _copy_trainable(old: keras.Layer, new: keras.Layer) -> None:
    """Copies the flags from the outside in: setting a layer's flag sets those of what it holds."""
    new.trainable = old.trainable
    if isinstance(old, keras.Model):
        for layer in old.layers:
            _copy_trainable(layer, new.get_layer(layer.name))
    else:
        held = zip(derived.inside(old)[1:], derived.inside(new)[1:], strict=True)
        for theirs, ours in held:
            ours.trainable = theirs.trainable
