"""Which device `adb` means, with a real client, server and adbd; and one that does not let us in."""

import subprocess
import sys
import threading

import pytest

import tfeffi
from tests.bench.devices import daemons
from tfeffi import bench

QUICK = {"min_runs": 5, "min_seconds": 0.0, "warmup_runs": 1}


@pytest.fixture(scope="module")
def room():
    room = daemons.Room()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADB_SERVER_SOCKET", room.address)
        try:
            yield room
        finally:
            room.close()


@pytest.fixture
def refusal(model):
    """What the tool says: one line."""

    def refused(device):
        command = [
            sys.executable,
            "-m",
            "tfeffi.tools.benchmark",
            f"--model={model}",
            f"--device={device}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        return done.stderr

    return refused


def test_none_one_and_several(room, model, tmp_path, refusal, monkeypatch):
    assert "adb: no device is attached: plug one in" in refusal("adb")
    assert 'there is no device "0123"; attached: none' in refusal("adb:0123")
    first = room.start()
    engine = bench.Engine(python=sys.executable, folder=str(tmp_path))
    row = bench.benchmark(model, device="adb", engine=engine, **QUICK)
    assert row.device == f"adb:{first}"
    assert f'there is no device "0123"; attached: {first} (device' in refusal("adb:0123")
    second = room.start()
    said = refusal("adb")
    assert "2 devices are attached" in said and "--device=adb:SERIAL" in said
    assert f"{first} (device" in said and f"{second} (device" in said
    assert bench.benchmark(model, device=f"adb:{second}", engine=engine, **QUICK).runs == 5
    monkeypatch.setenv("ANDROID_SERIAL", second)
    assert bench.benchmark(model, device="adb", engine=engine, **QUICK).device == f"adb:{second}"
    monkeypatch.delenv("ANDROID_SERIAL")
    for serial in (first, second):
        room.adb("disconnect", serial)
        room.kill(serial)


def test_one_that_is_offline(room, refusal):
    serial = room.start()
    room.daemons[serial].send_signal(daemons.signal.SIGSTOP)
    room.adb("disconnect", serial)  # the next handshake gets no answer
    client = threading.Thread(target=lambda: room.adb("connect", serial))
    client.start()
    try:
        daemons.wait_for(lambda: room.status(serial) == "offline")
        assert f"adb:{serial} is offline: plug it in again" in refusal(f"adb:{serial}")
    finally:
        room.daemons[serial].send_signal(daemons.signal.SIGCONT)
        client.join()
        room.adb("disconnect", serial)
        room.kill(serial)


# A phone that has never seen this computer asks it for a key, again and again.
SUSPICIOUS = """
import socket, struct, sys
AUTH, TOKEN = 0x48545541, 1
listener = socket.create_server(("127.0.0.1", 5117))
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    while head := peer.recv(24, socket.MSG_WAITALL):
        kind, first, _, size = struct.unpack("<4I8x", head)
        body = peer.recv(size, socket.MSG_WAITALL) if size else b""
        if kind != AUTH or first != 3:  # 3: here is my public key; the phone now shows its dialogue
            token = bytes(range(20))
            peer.sendall(struct.pack("<6I", AUTH, TOKEN, 0, 20, sum(token), AUTH ^ 0xFFFFFFFF) + token)
"""


def test_one_that_does_not_trust_this_computer(room, refusal):
    """adbd for Linux trusts everybody: this phone is a stand-in, the client and its server are real."""
    serial = "127.0.0.1:5117"
    phone = room.spawn([sys.executable, "-c", SUSPICIOUS])
    try:
        daemons.wait_for(
            lambda: room.adb("connect", serial) and room.status(serial) == "unauthorized"
        )
        assert f"adb:{serial} is unauthorized: unlock it" in refusal(f"adb:{serial}")
    finally:
        room.adb("disconnect", serial)
        phone.kill()


def test_without_a_client(tmp_path, monkeypatch, model):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tfeffi.BadInput, match='there is no client "adb" on the PATH; install it'):
        bench.benchmark(model, device="adb")
