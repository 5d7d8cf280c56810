"""Hosts behind a real sshd: who is let in, and what is left in the home folder."""

import os
import subprocess
import sys

import pytest

import tfeffi
from tests.bench.devices import daemons
from tfeffi import bench
from tfeffi.bench.devices import ssh

QUICK = {"min_runs": 5, "min_seconds": 0.0, "warmup_runs": 1}


@pytest.fixture(scope="module")
def server():
    server = daemons.Sshd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{server.path}:{os.environ['PATH']}")
        try:
            yield server
        finally:
            server.close()


@pytest.mark.parametrize(
    "where", ("board", "{user}@board", "127.0.0.1:{port}", "{user}@127.0.0.1:{port}")
)
def test_a_host_by_any_of_its_names(server, model, where):
    device = "ssh:" + where.format(user=server.user, port=server.port)
    row = bench.benchmark(model, device=device, engine=bench.Engine(python=sys.executable), **QUICK)
    assert row.device == device and row.runs == 5
    cache = server.home / ".cache"  # the folder of ours was in it
    assert cache.is_dir()
    daemons.wait_for(lambda: not list(cache.iterdir()))


@pytest.mark.parametrize(
    ("where", "line"),
    (
        ("", "say which host"),
        ("unknown", 'its host key is not known or has changed; say "ssh unknown" once'),
        ("refused", 'it does not let you in; put your key there: "ssh-copy-id refused"'),
        ("127.0.0.1:1", "nothing listens there"),
        ("no.such.host.invalid", "there is no such host"),
        ("-oProxyCommand=touch hacked", "ssh:-oProxyCommand"),
    ),
)  # fmt: skip
def test_hosts_that_cannot_be_reached(server, model, where, line):
    with pytest.raises(tfeffi.BadInput, match=line) as told:
        bench.benchmark(model, device=f"ssh:{where}", **QUICK)
    assert "\n" not in str(told.value) and not os.path.exists("hacked")


@pytest.mark.parametrize(
    ("where", "words"),
    (
        ("[::1]", ["--", "::1"]),
        ("pi@[fe80::1%eth0]:22", ["--", "pi@fe80::1%eth0"]),
        ("[::1]:2222", ["--", "::1"]),
    ),
)
def test_an_address_of_ipv6_loses_its_brackets(where, words):
    said = ssh.Ssh(where, "socket").shell("true")
    assert said[-3:-1] == words and ("-p" in said) == (not where.endswith("]"))


@pytest.mark.parametrize("device", (daemons.Room, daemons.Sshd))
@pytest.mark.parametrize(
    ("wanted", "outcome"), (("required", pytest.fail.Exception), ("", pytest.skip.Exception))
)
def test_where_all_can_be_had_nothing_is_skipped(device, wanted, outcome, tmp_path, monkeypatch):
    monkeypatch.setenv("TFEFFI_DEVICES", wanted)
    monkeypatch.setattr(daemons.shutil, "which", lambda *_, **__: None)
    with pytest.raises(outcome, match="there is no"):
        device()


def test_a_shell_that_greets(server, model, tmp_path):
    """Some put a greeting into their .bashrc, and do not ask whether anybody reads it."""
    greeting = server.home / ".bashrc"
    greeting.write_text("echo Welcome to this board; echo It has 4 cores")
    how = {"device": "ssh:board", "engine": bench.Engine(python=sys.executable), **QUICK}
    try:
        said = subprocess.run(
            ["ssh", "board", "true"], capture_output=True, text=True, check=True
        ).stdout
        assert said.startswith("Welcome")
        assert bench.benchmark(model, **how).runs == 5
        elsewhere = bench.Engine(python=sys.executable, folder="/no/such/folder")
        with pytest.raises(tfeffi.BadInput, match="has no place for a folder of ours"):
            bench.benchmark(model, **{**how, "engine": elsewhere})
    finally:
        greeting.unlink()


def test_a_folder_in_the_home_folder_there(server, model):
    place = server.home / "my bench"
    engine = bench.Engine(python=sys.executable, folder="~/my bench")
    with pytest.raises(tfeffi.BadInput, match=r"has no place for a folder of ours: .*my bench"):
        bench.benchmark(model, device="ssh:board", engine=engine, **QUICK)
    assert not place.exists() and not os.path.exists("~")
    place.mkdir()
    assert bench.benchmark(model, device="ssh:board", engine=engine, **QUICK).runs == 5
    daemons.wait_for(lambda: not list(place.iterdir()))
    place.rmdir()


def test_without_a_client(tmp_path, monkeypatch, model):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tfeffi.BadInput, match='there is no client "ssh" on the PATH'):
        bench.benchmark(model, device="ssh:board")
