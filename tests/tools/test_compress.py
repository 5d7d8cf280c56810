"""tfeffi-compress as its users run it: files in, files out, one line and exit code 2 for mistakes."""

import json
import subprocess
import sys

import keras
import pytest

from tests.tools import many
from tfeffi import models


def save(folder, name, model):
    model.save(folder / name)
    return f"--model={folder / name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compress")
    size = {"input_shape": (28, 28, 1), "num_classes": 10, "width_multiplier": 0.5}
    save(folder, "mnist.keras", models.build("mnist_classifier", **size))
    save(folder, "rgb.keras", models.build("resnet8_mlperf_tiny", width_multiplier=0.5))
    image = keras.Input((28, 28, 1))
    encoded = keras.layers.Conv2D(16, 3, padding="same", name="encoder")(image)
    decoded = keras.layers.Conv2D(1, 3, padding="same", name="decoder")(encoded)
    save(folder, "autoencoder.keras", keras.Model(image, decoded))
    (folder / "note.keras").write_text("not a model")
    (folder / "cut.keras").write_bytes((folder / "mnist.keras").read_bytes()[:4000])
    (folder / "model.h5").write_text("")
    (folder / "there.keras").write_text("finished work")
    (folder / "report.json").write_text("{}")
    return folder


GOOD = {
    "pruned": ["mnist", "--method=prune", "--budget_macs=0.5", "--importance=l2"],
    "measured": ["mnist", "--method=prune", "--budget_params=0.5", "--dataset=fashion_mini",
                 "--split=train[:300]", "--finetune_epochs=1", "--validation_split=train[300:400]"],
    "factorized": ["mnist", "--method=factorize", "--budget_bytes=120000", "--ignore=conv1"],
    "in_steps": ["mnist", "--method=prune", "--budget_params=0.4", "--dataset=fashion_mini",
                 "--split=train[:128]", "--iterations=2", "--schedule=geometric",
                 "--finetune_epochs=1"],
    "by_sensitivity": ["mnist", "--method=sensitivity", "--budget_bytes=0.6", "--importance=l2",
                       "--dataset=fashion_mini", "--split=train[:128]", "--evaluate=accuracy",
                       "--ratios=0.5,0.25,0.1"],
    "by_energy": ["rgb", "--method=channel", "--energy=0.5", "--multiple_of=4"],
    "tucker": ["rgb", "--method=tucker", "--rank=0.3", "--multiple_of=1"],
    "separable": ["rgb", "--method=separable"],
    "pairs": ["rgb", "--method=1d", "--rank=0.4", "--mid_activation=relu", "--initialize=random"],
    "decoded": ["autoencoder", "--method=separable", "--dataset=fashion_mini",
                "--split=train[:128]", "--finetune_epochs=1"],
}  # fmt: skip

WEIGHTS = {
    "sparse": ["mnist", "--method=sparsify", "--sparsity=0.9", "--dataset=fashion_mini",
               "--split=train[:128]", "--finetune_epochs=1"],
    "shared": ["mnist", "--method=cluster", "--bits=3", "--ignore=logits"],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(folder):
    cases = [
        [f"--model={folder / words[0]}.keras", f"--output={folder / name}.keras", *words[1:]]
        for name, words in {**GOOD, **WEIGHTS}.items()
    ]
    return dict(zip([*GOOD, *WEIGHTS], many.run("compress", cases), strict=True))


@pytest.mark.parametrize("name", GOOD)
def test_a_smaller_keras_file_and_its_report(folder, made, name):
    code, out, err = made[name]
    assert code == 0, err
    report = json.loads((folder / f"{name}.json").read_text())
    small = keras.models.load_model(folder / f"{name}.keras")
    assert report["after"]["params"] == small.count_params() < report["before"]["params"]
    assert report["changed"] and f"{report['after']['macs']:,}" in out
    assert ("finetune" in report) == ("--finetune_epochs=1" in GOOD[name])
    assert not list(folder.glob(f".{name}*"))


def test_budgets_are_met(folder, made):
    costs = {name: json.loads((folder / f"{name}.json").read_text()) for name in GOOD}
    assert costs["pruned"]["after"]["macs"] <= 0.5 * costs["pruned"]["before"]["macs"]
    assert costs["measured"]["after"]["params"] <= 0.5 * costs["measured"]["before"]["params"]
    assert costs["factorized"]["measured"]["file_bytes_after"] <= 120_000
    assert costs["in_steps"]["after"]["params"] <= 0.4 * costs["in_steps"]["before"]["params"]
    assert [row["step"] for row in costs["in_steps"]["settings"]["steps"]] == [1, 2]
    sizes = costs["by_sensitivity"]["measured"]
    assert sizes["file_bytes_after"] <= 0.6 * sizes["file_bytes_before"]
    assert costs["by_sensitivity"]["settings"]["sensitivity"][0]["layers"] == ["conv1"]


def test_weights_alone_change_and_fine_tuning_holds_them(folder, made):
    for name in WEIGHTS:
        code, out, err = made[name]
        assert code == 0 and "Brings no speed" in out, err
    kernels = {
        name: [layer.get_weights()[0] for layer in model.layers if layer.weights]
        for name in WEIGHTS
        for model in [keras.models.load_model(folder / f"{name}.keras")]
    }
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels["sparse"])
    assert zeros == round(0.9 * sum(kernel.size for kernel in kernels["sparse"]))
    values = [len(set(kernel.ravel().tolist())) for kernel in kernels["shared"]]
    assert max(values[:-1]) <= 8 < values[-1]


def test_fine_tuning_is_in_the_report(folder, made):
    report = json.loads((folder / "measured.json").read_text())["finetune"]
    assert report["images"] == 300 and report["settings"]["epochs"] == 1
    assert 0 <= report["history"][0]["validation_accuracy"] <= 1


TAUGHT = ["--dataset=fashion_mini", "--finetune_epochs=1", "--finetune_teacher={}/mnist.keras"]
BAD = [
    (["--model={}/none.keras"], "there is no model file"),
    (["--model={}/note.keras"], "is not a .keras file inside"),
    (["--model={}/cut.keras"], "is not a .keras file inside, or is cut off"),
    (["--model={}/model.h5"], "is not a .keras file; save it with"),
    (["--output={}/new.tflite"], "must end in .keras"),
    (["--output={}/there.keras"], "there.keras\" exists already"),
    (["--report={}/report.json"], 'report "'),
    (["--report={}/new.keras"], 'new.keras" is the output; name another'),
    (["--report=/proc/report.json"], "/proc"),
    (["--method=sparsify"], 'method "sparsify" needs a sparsity; give sparsity='),
    (["--method=sensitivity"], 'method "sensitivity" needs a budget; give budget='),
    (["--dataset=fashion_mini", "--measured_images=0"], "measured_images"),
    (["--method=seperable"], 'unknown method "seperable"; did you mean "separable"'),
    (["--budget_macs=0.5", "--budget_params=0.5"], "macs and params was given"),
    (["--budget_macs=-1"], "macs=-1.0 is not positive"),
    (["--budget_macs=0.5", "--budget_quantize=int8"], "is for bytes and latency, macs are the same"),
    (["--budget_latency=3"], "latency=3.0 is above 1; give a fraction in (0, 1], or latency_ms="),
    (["--budget_macs=0.5", "--threads=2"], "threads=2 is for latency, not for macs"),
    (["--budget_latency=0.5", "--device=moon"], 'unknown device "moon"'),
    (["--budget_latency=0.5", "--benchmark_binary=no"], 'there is no benchmark binary "no"'),
    (["--budget_latency=0.5", "--device_python=python3"], "device_python is for devices that are not"),
    (["--budget_macs=0.5", "--benchmark_binary=no"], "benchmark_binary='no' is for latency, not"),
    (["--method=sensitivity", "--budget_macs=0.5"], '"fidelity" is measured on data'),
    (["--method=sensitivity", "--ratios=0.5,half"], "--ratios=0.5,half must be numbers"),
    (["--method=prune", "--iterations=3"], "iterations=3 need a budget"),
    (["--budget_macs=half"], "budget_macs"),
    (["--budget_macs=1e-6"], "smallest that can be reached"),
    (["--method=separable", "--budget_macs=0.5"], 'method "separable" takes no budget'),
    (["--energy=2"], "energy=2.0 must be in"),
    (["--rank=evbfm"], "--rank=evbfm is neither a number nor evbmf"),
    (["--ignore=conv9"], 'layer "conv9" is not in the model; did you mean "conv'),
    (["--dataset=fashion_mimi"], "fashion_mini"),
    (["--dataset=fashion_mini", "--split=test"], "use training images only"),
    (["--dataset=fashion_mini", "--split=trian"], "trian"),
    (["--model={}/rgb.keras", "--dataset=fashion_mini"], "shape"),
    (["--method=1d", "--model={}/rgb.keras", "--dataset=fashion_mini", "--finetune_epochs=1"],
     "shape"),
    (["--finetune_epochs=1"], "needs --dataset"),
    ([*TAUGHT, "--validation_split=test"], "--validation_split does nothing with --finetune_teacher"),
    ([*TAUGHT, "--finetune_l2=1e-4"], "--finetune_l2 does nothing with --finetune_teacher"),
    ([*TAUGHT, "--finetune_precision=mixed_bfloat16"], "--finetune_precision does nothing with"),
    ([*TAUGHT, "--workdir={}/work"], "--workdir does nothing with --finetune_teacher"),
    (["--seed=-1"], "seed"),
    (["--method=tfmot_qat", "--integer_io"], "--integer_io is of the file that --tflite=m.tflite"),
    (["--method=tfmot_qat", "--min_agreement=0"], "--min_agreement is of the file that --tflite="),
    (["--method=tfmot_qat", "--tflite={}/q.tflite", "--finetune_epochs=1"],
     "--finetune_epochs would train on after --tflite is written"),
    (["--method=tfmot_qat", "--tflite=/proc/q.tflite", "--dataset=no_such"], "/proc"),
    (["--method=prune"], "budget"),
    (["stray"], 'unexpected argument "stray"'),
    (["--colour=red"], "colour"),
]  # fmt: skip


@pytest.fixture(scope="module")
def refused(folder):
    usual = [f"--model={folder}/mnist.keras", f"--output={folder}/new.keras", "--method=factorize"]
    cases = [[*usual, *(word.format(folder) for word in words)] for words, _ in BAD]
    return many.run("compress", cases)


@pytest.mark.parametrize("number", range(len(BAD)), ids=[" ".join(words) for words, _ in BAD])
def test_a_mistake_gets_one_line_and_exit_code_2(folder, refused, number):
    code, out, err = refused[number]
    assert code == 2
    assert BAD[number][1] in err and err.startswith("tfeffi-compress: ")
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in out + err
    assert not (folder / "new.keras").exists() and not (folder / "new.json").exists()
    assert (folder / "there.keras").read_text() == "finished work"


def test_help_is_quick_and_names_every_method():
    command = [sys.executable, "-m", "tfeffi.tools.compress", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    for word in ("prune", "factorize", "separable", "1d", "--budget_macs", "--finetune_epochs"):
        assert word in done.stdout
