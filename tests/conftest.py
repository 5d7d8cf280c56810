"""What every test starts from: quiet TensorFlow, the same seed, no data set of the user's."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import hypothesis
import keras
import pytest

hypothesis.settings.register_profile(
    "same",  # `make test`: the same examples every time
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
    derandomize=True,
)
hypothesis.settings.register_profile(
    "new",  # `make test-all`: other examples every time
    hypothesis.settings.get_profile("same"),
    derandomize=False,
)
hypothesis.settings.load_profile("same")  # --hypothesis-profile=new overrides it


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session(free_memory=False)  # collecting garbage takes 0.4 s a test


@pytest.fixture
def abacus(monkeypatch, tmp_path):
    """A device on which a multiply-add takes a nanosecond; its log; and a cache that is empty."""
    from tfeffi.bench import devices

    here = pathlib.Path(__file__).parent / "bench" / "devices"
    monkeypatch.setattr(devices, "__path__", [*devices.__path__, str(here)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"macs:{tmp_path / 'log'}"
