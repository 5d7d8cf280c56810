"""What the results of the sprint show: 94 %, in how much compute and time; its parts; stock Keras."""

import pathlib

import pytest

from configs import cifar10_sprint, cifar10_sprint_parts, sprint_against_stock
from tfeffi.study.results import Result

RESULTS = pathlib.Path(__file__).parents[2] / "results"
CONFIG, PARTS, AGAINST = (
    card.get_config().to_dict()
    for card in (cifar10_sprint, cifar10_sprint_parts, sprint_against_stock)
)


def rows_of(config):
    return {row["name"]: row for row in Result.read(RESULTS / f"{config['name']}.json").rows}


def test_ninety_four_percent_over_five_seeds():
    row = rows_of(CONFIG)["cifar10_sprint"]
    assert row["n"] == CONFIG["replicates"] >= 5 and row["epochs"] == CONFIG["train"]["epochs"]
    assert row["accuracy_mean"] >= 0.94 and row["pflop"] <= 0.29
    full_size = 3 * row["macs"] * 50_000
    assert row["train_macs"] / full_size == pytest.approx(7.6, abs=0.1)  # epochs, as the page says
    amx = Result.read(RESULTS / "cifar10_sprint_amx.json").rows[0]
    for seed in (row, amx, rows_of(AGAINST)["the sprint"]):  # five to twelve minutes
        assert 300 < seed["train_seconds_mean"] + seed["compile_seconds_mean"] < 720


def test_six_minutes_with_amx():
    """An earlier recipe, which has more multiply-adds."""
    result = Result.read(RESULTS / "cifar10_sprint_amx.json")
    row, now = result.rows[0], rows_of(CONFIG)["cifar10_sprint"]
    assert "amx_bf16" in result.hardware["cpu_features"] and result.hardware["cores"] == 2
    assert row["n"] >= 5 and row["accuracy_mean"] >= 0.94 and now["pflop"] < row["pflop"] <= 0.29
    assert row["train_seconds_mean"] + row["compile_seconds_mean"] <= 360


def test_what_the_page_says_of_a_step_with_avx512():
    amx, avx512 = (
        Result.read(RESULTS / f"{name}.json") for name in ("sprint_step", "sprint_step_avx512")
    )
    assert "amx_bf16" in amx.hardware["cpu_features"] and amx.hardware["cores"] == 2
    assert not {"amx_bf16"} & set(avx512.hardware["cpu_features"]) and avx512.hardware["cores"] == 2
    assert "avx512_bf16" in avx512.hardware["cpu_features"]
    amx, avx512 = ({row["name"]: row["step_ms"] for row in one.rows} for one in (amx, avx512))
    assert avx512["Keras's layers, float32"] < amx["Keras's layers, float32"]
    assert all(avx512["all"] < took for name, took in avx512.items() if name != "all")


def test_stock_keras_is_extrapolated_from_an_epoch_beside_a_seed():
    rows = rows_of(AGAINST)
    ours, stock = rows["the sprint"], rows["stock Keras"]
    assert stock["measured_epochs"] == AGAINST["stock"]["measured_epochs"] >= 1
    assert (ours["n"], ours["epochs"]) == (AGAINST["replicates"], CONFIG["train"]["epochs"])
    seconds = ours["train_seconds_mean"] + ours["compile_seconds_mean"]
    assert ours["times_faster_than_stock"] == pytest.approx(stock["train_seconds"] / seconds)
    assert ours["accuracy_mean"] > 0.935
    usual = Result.read(RESULTS / "cifar10_sprint_amx.json").rows[0]["train_seconds_mean"]
    assert ours["train_seconds_mean"] > 1.5 * usual  # as the page says of that day


def test_every_change_of_the_config_was_trained_over_two_seeds():
    rows = rows_of(PARTS)
    assert list(rows) == [PARTS["recipe"], *PARTS["ablations"]]
    for name, row in rows.items():
        changed = PARTS["ablations"].get(name, {}).get("train", {})
        assert row["epochs"] == changed.get("epochs", PARTS["train"]["epochs"])
        assert row["n"] == 2 == PARTS["replicates"] == PARTS["ablation_replicates"]


def test_what_the_page_says_of_the_parts():
    rows = rows_of(PARTS)
    recipe = rows[PARTS["recipe"]]
    for name in PARTS["ablations"]:
        spread = recipe["accuracy_std"] + rows[name]["accuracy_std"]
        is_beyond = recipe["accuracy_mean"] - rows[name]["accuracy_mean"] > spread
        assert is_beyond == (name != "no whitening"), name
    front = {row["name"]: row for row in Result.read(RESULTS / "pareto_cifar10.json").rows}
    shorter = front["sprint, 3 epochs"]
    for name, sign in (("PruneTrain", 1), ("Net2Net", -1)):  # less; no more
        spread = rows[name]["accuracy_std"] + shorter["accuracy_std"]
        assert shorter["accuracy_mean"] - rows[name]["accuracy_mean"] > sign * spread
        assert rows[name]["train_macs"] > shorter["train_macs_mean"]
    assert rows["growing batch"]["accuracy_mean"] < rows["steps of the rate"]["accuracy_mean"]
    full = rows["full size, three epochs"]
    assert 0.9 * recipe["train_macs"] < full["train_macs"] < recipe["train_macs"]
    assert recipe["accuracy_mean"] - full["accuracy_mean"] == pytest.approx(0.015, abs=2e-3)
    assert recipe["accuracy_mean"] - rows["look-ahead"]["accuracy_mean"] == pytest.approx(
        0.005, abs=1e-3
    )
