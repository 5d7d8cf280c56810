"""tfeffi-compress with a fine-tuning on the answers of a teacher."""

import json

import keras

from tests.tools import many


def test_the_original_teaches_the_pruned_one_and_mistakes_are_one_line(tmp_path):
    inputs = x = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(16, 5, strides=3, activation="relu", name="conv")(x)
    keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x))).save(
        tmp_path / "m.keras"
    )
    keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(x))).save(
        tmp_path / "seven.keras"
    )
    (tmp_path / "text.keras").write_text("no model")
    prune = [
        f"--model={tmp_path}/m.keras", "--method=prune", "--budget_macs=0.6", "--importance=l2",
        "--dataset=fashion_mini", "--split=train[:128]",
    ]  # fmt: skip
    teacher = f"--finetune_teacher={tmp_path}/m.keras"
    good = [f"--output={tmp_path}/s.keras", "--finetune_epochs=1", "--finetune_alpha=0.5"]
    bad = {
        "needs --finetune_epochs": [teacher],
        "no model file": ["--finetune_teacher=gone.keras", "--finetune_epochs=1"],
        "is not a .keras file": [f"--finetune_teacher={tmp_path}/text.keras", "--finetune_epochs=1"],
        "the teacher (None, 28, 28, 1) to (None, 7)": [
            f"--finetune_teacher={tmp_path}/seven.keras", "--finetune_epochs=1",
        ],
        "is of distillation": ["--finetune_alpha=0.5", "--finetune_epochs=1"],
        "alpha=2.0; give the teacher's share": [
            teacher, "--finetune_epochs=1", "--finetune_alpha=2",
        ],
    }  # fmt: skip
    runs = [[*prune, *good, teacher]]
    runs += [[*prune, f"--output={tmp_path}/bad.keras", *more] for more in bad.values()]
    first, *others = many.run("compress", runs)
    assert first[0] == 0, first
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["finetune"]["method"] == "distill"
    assert report["finetune"]["settings"]["alpha"] == 0.5
    for message, (code, output, error) in zip(bad, others, strict=True):
        assert code == 2 and message in error, error
        early = "alpha" not in message  # nothing was compressed in vain
        assert not early or "MACs" not in output, output
    assert not (tmp_path / "bad.keras").exists()
