"""The table of operators: what it adds up to, what it keeps, what it measures again."""

import contextlib
import json

import keras
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import tfeffi
from tests.bench.devices import standin
from tests.bench.devices.test_native_output import sample
from tests.bench.test_groups import packed
from tests.compress.abacus import count, net
from tfeffi import cost
from tfeffi.bench import Engine, LatencyTable, devices
from tfeffi.bench.one_layer import exported
from tfeffi.errors import BadInput
from tfeffi.export.flatbuffer import ModelError


def test_the_layers_of_a_model_by_their_time(abacus):
    model = net()
    found = LatencyTable(abacus).of(model)
    macs = {layer.name: layer.macs for layer in cost(model).layers}
    assert {row.layer: row.ms for row in found.rows if row.ms} == pytest.approx(
        {name: count * 1e-6 for name, count in macs.items() if count}
    )
    assert found.ms == pytest.approx(cost(model).macs * 1e-6)
    lines = found.table().splitlines()
    assert lines[1].split()[:3] == ["c", "Conv2D", "8x8x24"] and lines[-1].startswith("macs:")
    assert LatencyTable(abacus).model_ms(model) == pytest.approx(found.ms)


def test_what_starting_takes_is_no_layers(abacus):
    """A model starts once, and not once a layer."""
    table = LatencyTable(abacus.replace("macs:", "starting:"))
    assert table.overhead_ms == pytest.approx(0.5)
    assert table.of(net()).ms == pytest.approx(cost(net()).macs * 1e-6)
    assert table.model_ms(net()) == pytest.approx(0.5 + cost(net()).macs * 1e-6)


def test_a_layer_is_measured_once_whatever_its_name(abacus):
    table = LatencyTable(abacus)
    assert count(abacus) == 1  # what starting an inference takes
    first = table.layer_ms(layers.Conv2D(8, 3, name="one"), (6, 6, 4))
    assert first == pytest.approx(4 * 4 * 8 * 9 * 4 * 1e-6)
    again = table.layer_ms(layers.Conv2D(8, 3, name="two", kernel_initializer="ones"), (6, 6, 4))
    assert again == first and table.measured == 1 and count(abacus) == 2
    assert table.layer_ms(layers.Conv2D(8, 3, strides=2), (6, 6, 4)) < first
    assert table.measured == 2


def test_what_is_in_the_cache_is_not_measured_again(abacus, tmp_path):
    model = net()
    first = LatencyTable(abacus, cache=tmp_path / "kept")
    rows = first.of(model).rows
    assert first.measured == 7  # a, depthwise, b, Add, c, Flatten, logits
    before = count(abacus)
    second = LatencyTable(abacus, cache=tmp_path / "kept")
    assert second.of(model).rows == rows
    assert second.measured == 0 and count(abacus) == before + 1
    other = LatencyTable(abacus, threads=2, cache=tmp_path / "kept")
    other.of(model)
    assert other.path != second.path and other.measured == first.measured


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"identity": 1, "layers": {}}', '{"operators": {"x": {"ms": "fast"}}}'],
)
def test_a_damaged_cache_is_told_and_measured_again(abacus, tmp_path, damage):
    layer = layers.Conv2D(8, 3)
    table = LatencyTable(abacus, cache=tmp_path)
    expected = table.layer_ms(layer, (6, 6, 4))
    table.path.write_text(damage)
    with pytest.warns(UserWarning, match="is damaged; its operators are measured again") as caught:
        again = LatencyTable(abacus, cache=tmp_path)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert again.layer_ms(layer, (6, 6, 4)) == expected and again.measured == 1
    content = json.loads(again.path.read_text())
    assert content["identity"]["engine"] == "abacus 1" and len(content["layers"]) == 1
    (operator,) = content["operators"]
    assert " B: CONV_2D(float32 1x6x6x4, float32 8x3x3x4*) -> " in operator


def test_two_tables_at_once_keep_what_both_measured(abacus, tmp_path):
    one, two = (LatencyTable(abacus, cache=tmp_path) for _ in range(2))
    one.layer_ms(layers.Conv2D(8, 3), (6, 6, 4))
    two.layer_ms(layers.Dense(8), (6,))
    third = LatencyTable(abacus, cache=tmp_path)
    third.layer_ms(layers.Conv2D(8, 3), (6, 6, 4))
    third.layer_ms(layers.Dense(8), (6,))
    assert third.measured == 0
    assert not list(tmp_path.glob("**/.*json"))  # written under another name, then renamed


def test_what_the_converter_folds_takes_no_time(abacus):
    """Batch normalization and ReLU go into the convolution before them, and nowhere else."""
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="folded")(x))
    x = layers.BatchNormalization(name="alone")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.ReLU(negative_slope=0.1, name="leaky")(layers.Conv2D(8, 1, name="last")(x))
    table = LatencyTable(abacus)
    before = count(abacus)
    table.of(keras.Model(inputs, x))
    assert table.measured == count(abacus) - before == 4  # conv, alone, last, leaky


def test_a_layer_that_cannot_be_exported_alone_is_named(abacus):
    table = LatencyTable(abacus)
    assert table.layer_ms(layers.Conv2D(8, 9), (4, 4, 3)) == 0.0  # larger than its input
    assert list(table.unmeasured) == ["Conv2D on (4, 4, 3)"]


def test_a_prediction_is_the_sum_of_its_operators_and_one_start(abacus, tmp_path):
    model = net()
    table = LatencyTable(abacus.replace("macs:", "starting:"))
    found = table.predict(model)
    assert found.fixed_ms == pytest.approx(0.5)
    assert found.ms == pytest.approx(0.5 + sum(row.ms for row in found.rows))
    assert found.ms == pytest.approx(table.model_ms(model))
    assert found.ms == pytest.approx(0.5 + table.of(model).ms)
    kinds = [row.kind for row in found.rows]
    assert kinds == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "CONV_2D", "RESHAPE", "FULLY_CONNECTED",
    ]  # fmt: skip
    lines = found.table().splitlines()
    assert lines[1].split()[0] == "starting" or lines[1].split()[:2] == ["CONV_2D", "3"]
    assert lines[-1].endswith(f"together {found.ms:.4f} ms")
    path = tmp_path / "m.tflite"
    tfeffi.export(model, path)
    before = table.measured
    assert table.predict(path).rows == found.rows and table.measured == before


def test_a_deeper_model_takes_proportionally_more(abacus):
    def deep(blocks):
        x = inputs = keras.Input((8, 8, 8))
        for _ in range(blocks):
            x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        return keras.Model(inputs, x)

    table = LatencyTable(abacus)
    one = table.predict(deep(1)).ms
    assert [table.predict(deep(n)).ms / one for n in (2, 5, 9)] == pytest.approx([2, 5, 9])
    assert table.measured == 1


def test_int8_has_entries_of_its_own(abacus, tmp_path):
    model = net()
    whole, small = (
        LatencyTable(abacus, quantize=quantize, cache=tmp_path) for quantize in (None, "int8")
    )
    for table in (whole, small):
        found = table.predict(model)
        assert found.ms == pytest.approx(table.of(model).ms) == pytest.approx(table.model_ms(model))
        assert len(found.rows) == 7 == table.measured
    assert {row.operator.split("(")[1].split()[0] for row in found.rows} == {"int8"}
    assert whole.path == small.path
    again = LatencyTable(abacus, quantize="int8", cache=tmp_path)
    assert again.predict(model).rows == found.rows and again.of(model).ms and again.measured == 0


def test_the_memory_around_an_operator_is_part_of_its_entry(abacus):
    table = LatencyTable(abacus)
    layer, shape = layers.Conv2D(8, 3), (6, 6, 4)
    alone = table.layer_ms(layer, shape)
    assert table.layer_ms(layer, shape, memory=1 << 22) == pytest.approx(alone)
    assert table.measured == 2
    table.layer_ms(layer, shape, memory=(1 << 22) + 1000)
    assert table.measured == 2


def test_two_phones_have_a_cache_each(abacus, tmp_path, monkeypatch):
    """ "adb" is whichever is attached, and a table stays with the one that it met."""
    real, attached, met = devices.opened, [], []

    @contextlib.contextmanager
    def opened(device, folder=None):
        met.append(device)
        with real(abacus, folder) as (_, measure):
            yield (f"adb:{attached[0]}" if device == "adb" else device), measure

    monkeypatch.setattr(devices, "opened", opened)
    attached[:] = ["red"]
    red = LatencyTable("adb", cache=tmp_path)
    attached[:] = ["blue"]
    blue = LatencyTable("adb", cache=tmp_path)
    assert red.path != blue.path and red.identity["device"] == "adb:red"
    assert red.predict(net()).device == red.of(net()).device == "adb:red"
    assert met.count("adb") == 2 and set(met) == {"adb", "adb:red"}
    assert blue.predict(net()).rows and blue.measured == red.measured
    attached[:] = ["red"]
    again = LatencyTable("adb", cache=tmp_path)
    assert again.predict(net()).rows and again.measured == 0


def test_a_native_program_measures_where_there_is_no_python(tmp_path):
    """It replays what a real one printed: every operator takes as long as starting does."""
    fast, slow = (
        standin.write(tmp_path / name, sample(name))
        for name in ("x86_opprof_peakmem", "x86_default")
    )
    how = {"cache": tmp_path / "kept", "min_runs": 20, "min_seconds": 0.0}
    table = LatencyTable(engine=Engine(binary=slow), **how)
    assert table.overhead_ms == pytest.approx(1.85119)  # a mean: it tells no median
    assert table.predict(net()).ms == pytest.approx(1.85119) == table.model_ms(net())
    assert len(standin.calls(slow)) == 1 + table.measured + 1 and table.measured == 7
    again = LatencyTable(engine=Engine(binary=slow), **how)
    assert again.path == table.path and again.predict(net()).ms and again.measured == 0
    others = [
        LatencyTable(engine=engine, **how)
        for engine in (Engine(binary=fast), Engine(binary=slow, cpu_affinity="0"), Engine(),
                       Engine(xnnpack=False), Engine(xnnpack=True))
    ]  # fmt: skip
    assert len({table.path, *(other.path for other in others)}) == 6


def test_a_budget_is_measured_by_the_native_program(tmp_path, monkeypatch):
    """prune: the table and the meter both ask it, and the report says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    binary = standin.write(tmp_path / "benchmark_model", sample("x86_default"))
    budget = tfeffi.Budget(latency_ms=2.0, benchmark_binary=str(binary))
    _, report = tfeffi.prune(net(), budget=budget, importance="l2")
    assert report.measured["engine"] == "benchmark_model"
    assert report.measured["latency_ms_after"] == pytest.approx(1.85119)
    assert len(standin.calls(binary)) > 2
    assert {row["identity"]["engine"] for row in map(
        lambda path: json.loads(path.read_text()), (tmp_path / "cache").glob("**/*.json")
    )} == {"benchmark_model"}  # fmt: skip


def test_what_is_no_table(abacus, tmp_path):
    with pytest.raises(BadInput, match='unknown device "moon"'):
        LatencyTable("moon")
    with pytest.raises(BadInput, match="threads 0 must be at least 1"):
        LatencyTable(abacus, threads=0)
    with pytest.raises(BadInput, match="there is no benchmark binary"):
        LatencyTable(abacus, engine=Engine(binary=tmp_path / "none"))
    with pytest.raises(BadInput, match=r'unknown quantize "int4"; .*int8'):
        LatencyTable(abacus, quantize="int4")
    open_model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(8, 3)])
    with pytest.raises(BadInput, match=r"leaves the shape .* open"):
        LatencyTable(abacus).of(open_model)
    with pytest.raises(BadInput, match=r"the open shape \(None, None, 3\); give input_shape"):
        LatencyTable(abacus).predict(open_model)
    with pytest.raises(BadInput, match="there is no model file"):
        LatencyTable(abacus).predict(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("This is not a model.")
    with pytest.raises(BadInput, match=r"is not a \.tflite file"):
        LatencyTable(abacus).predict(tmp_path / "text.tflite")


def test_on_this_machine(tmp_path):
    table = LatencyTable(cache=tmp_path, min_runs=5, min_seconds=0.0)
    model = keras.Sequential([keras.Input((32, 32, 16)), layers.Conv2D(32, 3), layers.Flatten()])
    found = table.of(model)
    assert [row.kind for row in found.rows] == ["InputLayer", "Conv2D", "Flatten"]
    assert 0 < found.ms < 1000 and table.overhead_ms > 0
    assert table.identity["engine"].startswith("LiteRT ") and table.path.parent == tmp_path
    whole = LatencyTable(cache=tmp_path, quantize="int8", min_runs=5, min_seconds=0.0)
    guess = whole.predict(model)
    assert [row.kind for row in guess.rows] == ["CONV_2D", "RESHAPE"]
    whole_ms = min(whole.model_ms(model) for _ in range(3))  # the least disturbed of them
    assert whole_ms / 5 < guess.ms < whole_ms * 5  # a wrong unit is a thousand
    made = schema.ModelT.InitFromPackedBuf(exported(model), 0)
    made.operatorCodes[0].builtinCode = made.operatorCodes[0].deprecatedBuiltinCode = 32
    made.operatorCodes[0].customCode = b"Moon"
    (tmp_path / "custom.tflite").write_bytes(packed(made))
    with pytest.raises(ModelError, match=r'custom\.tflite" needs the custom operator "Moon"'):
        table.predict(tmp_path / "custom.tflite")
