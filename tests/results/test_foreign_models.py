"""What results/foreign_models.json shows of somebody else's models."""

import pathlib

import pytest

from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "foreign_models.json"


def rows(model):
    return {r["variant"]: r for r in Result.read(RESULT).rows if r["model"] == model}


def test_the_originals_are_what_they_should_be():
    cifar, resnet = rows("cifar10_cnn")["float32"], rows("resnet50")["float32"]
    assert cifar["accuracy"] == 0.8014 and cifar["params"] == 969_418
    assert resnet["params"] == 25_636_712
    assert resnet["chelsea_probability"] == pytest.approx(0.86, abs=0.01)
    assert resnet["coffee_probability"] == pytest.approx(0.998, abs=0.002)


def test_statistics_alone_repair_a_pruned_resnet():
    found = rows("resnet50")
    assert found["pruned_l2"]["agreement"] < 0.1
    assert found["pruned_l2_recalibrated"]["agreement"] > 0.5
    assert found["pruned_l2_recalibrated"]["macs"] <= 0.8 * found["float32"]["macs"]


def test_the_originals_answers_repair_a_pruned_network():
    found = rows("cifar10_cnn")
    assert found["pruned_distilled"]["accuracy"] > found["pruned"]["accuracy"]
    assert found["pruned_distilled"]["accuracy"] >= found["float32"]["accuracy"] - 0.03
    assert found["pruned_distilled"]["macs"] <= 0.5 * found["float32"]["macs"]


def test_int8_files_are_a_quarter():
    for model in ("cifar10_cnn", "resnet50"):
        found = rows(model)
        assert found["int8"]["bytes"] < 0.27 * found["float32"]["bytes"]


def test_whoever_is_timed_says_whether_it_is_faster():
    for model in ("cifar10_cnn", "resnet50"):
        for row in rows(model).values():
            assert row.get("faster", False) == (row.get("ratio_high", 1) < 1)


def test_what_data_tell_a_factorization_depends_on_how_many_there_are():
    """10 000 images of the network's own kind help; 95 views of 19 photographs harm."""
    cifar, resnet = rows("cifar10_cnn"), rows("resnet50")
    assert cifar["factorized"]["accuracy"] > cifar["factorized_weights"]["accuracy"]
    assert cifar["factorized"]["accuracy"] >= cifar["float32"]["accuracy"] - 0.005
    assert cifar["factorized"]["macs"] <= 0.5 * cifar["float32"]["macs"]
    assert resnet["factorized"]["agreement"] < resnet["factorized_weights"]["agreement"]
