"""A variant that is fine-tuned on the answers of a teacher."""

import pytest

from tests.study.test_variants import config
from tfeffi.errors import BadInput
from tfeffi.study import variants

PRUNED = {"method": "prune", "importance": "l2", "budget": {"macs": 0.5}, "multiple_of": 4}
TUNE = {"teacher": "baseline", "temperature": 2.0, "alpha": 0.5, "epochs": 1, "batch_size": 32}


def test_the_baseline_teaches_its_pruned_self(tmp_path):
    spec = {"small": {"compress": PRUNED, "finetune": TUNE}}
    (row,) = variants.run(config(variants=spec), tmp_path, verbose=False).rows
    assert row["n"] == 1 and (tmp_path / "small" / "model.keras").exists()
    baseline = variants.run(config(variants={"same": {}}), tmp_path / "other", verbose=False).rows
    assert row["macs"] <= 0.5 * baseline[0]["macs"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "gone.keras"}, 'teacher="gone.keras" is neither "baseline" nor'),
        ({"temperatur": 2.0}, 'takes no "temperatur"; did you mean "temperature"'),
        ({"alpha": 1.5}, "alpha=1.5; give the teacher's share"),
        ({"temperature": "hot"}, "temperature='hot'; give a number"),
        ({"schedule": {"name": "cosine"}}, 'takes no "schedule"'),
    ],
)
def test_mistakes_show_before_the_first_training(change, message, tmp_path):
    spec = {"small": {"compress": PRUNED, "finetune": {**TUNE, **change}}}
    with pytest.raises(BadInput, match=message):
        variants.run(config(variants=spec), tmp_path, verbose=False)
    assert not (tmp_path / "baseline").exists()


def test_a_teacher_does_not_tune_between_iterations(tmp_path):
    spec = {"small": {"compress": {**PRUNED, "iterations": 2}, "finetune": TUNE}}
    with pytest.raises(BadInput, match="tunes once, not between iterations"):
        variants.run(config(variants=spec), tmp_path, verbose=False)
