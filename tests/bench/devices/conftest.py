"""A device behind a real adbd or sshd, which is this machine, for the tests of what both share."""

import os

import pytest

from tests.bench.devices import daemons
from tests.export import handmade


@pytest.fixture(scope="module", params=("adb", "ssh"))
def server(request):
    """One of the two, and how its device is called; the clients find it by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "adb":
            server = daemons.Room()
            patch.setenv("ADB_SERVER_SOCKET", server.address)
            serial = server.start()
            server.device, server.vanish = f"adb:{serial}", lambda: server.kill(serial)
            server.restart = lambda: server.start(serial)
        else:
            server = daemons.Sshd()
            patch.setenv("PATH", f"{server.path}:{os.environ['PATH']}")
            server.device, server.vanish = "ssh:board", server.break_off
            server.restart = lambda: None
        try:
            yield server
        finally:
            server.close()


@pytest.fixture
def phone(server, tmp_path):
    """The device with a folder of its own, in which nothing may be left."""
    place = tmp_path / "on the device"
    place.mkdir()
    server.folder_there = place
    yield server
    daemons.wait_for(lambda: not list(place.iterdir()))


@pytest.fixture
def model(tmp_path):
    return handmade.relu(tmp_path / "m.tflite", shape=(1, 8, 8, 3))


@pytest.fixture
def endless(tmp_path):
    """So large that not even a million runs are done in time."""
    return handmade.relu(tmp_path / "endless.tflite", shape=(1, 512, 512, 8))
