"""Compression by name: what the name stands for, and one line for arguments that it does not take."""

import keras
import pytest

from tfeffi import Budget
from tfeffi.compress import by_name
from tfeffi.errors import BadInput


def model_of():
    return keras.Sequential([keras.Input((32,)), keras.layers.Dense(64), keras.layers.Dense(32)])


@pytest.mark.parametrize("method", ["prune", "factorize", "channel", "spatial", "tucker"])
def test_the_name_stands_for_the_method(method):
    arguments = {"importance": "l2"} if method == "prune" else {"importance": None}  # not given
    small, report = by_name.compress(
        model_of(), method=method, budget=Budget(macs=0.5), **arguments
    )
    assert report.method == ("prune" if method == "prune" else "factorize")
    assert report.settings.get("method", "prune") == {"factorize": "svd"}.get(method, method)
    assert report.after.macs <= 0.5 * report.before.macs and small.output_shape == (None, 32)


@pytest.mark.parametrize(
    ("method", "arguments", "says"),
    [
        ("prune", {"importanse": "l2"}, 'takes no importanse; did you mean "importance"'),
        ("prune", {"energy": 0.9}, "takes no energy; "),
        ("prune", {"model": "m.keras"}, "takes no model; "),
        ("separable", {"kind": "1d"}, "takes no kind; it takes ignore, initialize, mid_activation"),
        ("tucker", {"data": [0.0]}, "takes no data; "),
        ("1d", {"budget": Budget(macs=0.5)}, "takes no budget; "),
    ],
)
def test_arguments_that_a_method_does_not_take(method, arguments, says):
    with pytest.raises(BadInput, match=f'^method "{method}" {says}') as error:
        by_name.compress(model_of(), method, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["prun", None])
def test_unknown_methods(method):
    with pytest.raises(BadInput, match=f'^unknown method "{method}"; '):
        by_name.compress(model_of(), method)
