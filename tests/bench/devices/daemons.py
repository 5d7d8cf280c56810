"""A real adbd and a real sshd for the tests, each stopped in the end; and why they cannot be had."""

import contextlib
import getpass
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from tfeffi import bench

_UP = """
import fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x41))  # SIOCSIFFLAGS: up, running
print("up", flush=True)
sys.stdin.read()
"""


def missing(reason):
    """Skips the test; with TFEFFI_DEVICES=required, where everything can be had, it fails."""
    if os.environ.get("TFEFFI_DEVICES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def wait_for(true, seconds=60.0):
    """Until `true()` is; AssertionError if it is never."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def free_port():
    """A port of the loopback that nobody else gets for a while."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _stop(process):
    """Ends a process of ours and waits for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _adbd_command():
    """The command of a real adbd, its own or the unpacked one with its own loader."""
    installed = pathlib.Path("/usr/lib/android-sdk/platform-tools/adbd")
    if installed.exists():
        return [str(installed)]
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    root = pathlib.Path(os.environ.get("TFEFFI_ADBD") or pathlib.Path(home) / "tfeffi" / "adbd")
    loaders = sorted(root.glob("usr/lib/*/ld-linux-*.so.*"))
    program = root / str(installed)[1:]
    if not program.exists() or not loaders:
        return None
    libraries = f"{loaders[0].parent}:{loaders[0].parent}/android"
    return [str(loaders[0]), "--library-path", libraries, str(program)]


class Room:
    """A network namespace with an adb server in it, to which the adb client outside has a socket.

    adbd lets everybody in and listens on all addresses: here nobody else can come by.
    """

    def __init__(self):
        if not shutil.which("adb"):
            missing("there is no adb client (Debian: apt install adb)")
        self._command = _adbd_command()
        if not self._command:
            missing("there is no adbd: tests/bench/devices/get_adbd.sh unpacks one")
        self._stack = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="adb-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self._enter = self._namespace()
        self.address = f"localfilesystem:{folder / 's'}"
        self._environment = {**os.environ, "HOME": str(folder)}
        self.spawn(["adb", "-L", self.address, "server", "nodaemon"])
        wait_for((folder / "s").exists)
        self.daemons = {}

    def _namespace(self):
        for users in ([], ["--user", "--map-root-user"]):
            holder = subprocess.Popen(
                ["unshare", *users, "--net", sys.executable, "-c", _UP],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            if holder.stdout.readline() == "up\n":
                self._stack.callback(_stop, holder)
                flags = ["-U", "--preserve-credentials"] if users else []
                return ["nsenter", "-t", str(holder.pid), *flags, "-n", "--"]
            said = holder.communicate()[1]
        return missing(f"the kernel allows no network namespace: {said.strip()}")

    def spawn(self, command, **environment):
        """Starts a process in the namespace; it ends with the room."""
        process = subprocess.Popen(
            [*self._enter, *command], cwd="/", env={**self._environment, **environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._stack.callback(_stop, process)
        return process

    def start(self, serial=None):
        """A device: its serial number, which is its address."""
        serial = serial or f"127.0.0.1:{free_port()}"  # free outside too: adbd takes it of vsock
        self.daemons[serial] = self.spawn(self._command, ADBD_PORT=serial.partition(":")[2])
        wait_for(
            lambda: "connected" in self.adb("connect", serial) and self.status(serial) == "device"
        )
        return serial

    def kill(self, serial):
        """Takes a device away without a word."""
        process = self.daemons.pop(serial)
        process.kill()
        process.wait()

    def adb(self, *words):
        """What the client says."""
        done = subprocess.run(
            ["adb", *words], env={**os.environ, "ADB_SERVER_SOCKET": self.address},
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def status(self, serial):
        """Such as "device" or "offline"; None without it."""
        lines = (line.split("\t") for line in self.adb("devices").splitlines() if "\t" in line)
        return dict(lines).get(serial)

    def close(self):
        """Ends all of it."""
        if hasattr(self, "daemons"):
            self.adb("kill-server")
        self._stack.close()


class Sshd:
    """A real sshd on a port of the loopback, and an `ssh` that knows it as "board".

    Attributes:
        path: a folder to be put before PATH.
        port, user, home: of the server; the home folder that its users find.
    """

    def __init__(self):
        server, client = (
            shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"),
            shutil.which("ssh"),
        )
        if not server or not client:
            missing("there is no sshd or ssh (Debian: apt install openssh-server openssh-client)")
        self._stack = contextlib.ExitStack()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sshd-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._separation()
        self.port = free_port()
        self.user, self.home, self.path = (
            getpass.getuser(),
            self.folder / "cache",
            self.folder / "bin",
        )
        self.home.mkdir()
        self._files(client)
        self._server = subprocess.Popen(
            [server, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=subprocess.PIPE
        )
        self._stack.callback(self._stop)
        try:
            wait_for(self._listens)
        except AssertionError:
            said = self._server.communicate()[1] if self._server.poll() is not None else b""
            self.close()
            missing(f"sshd does not start: {said.decode(errors='replace').strip()}")

    def _separation(self):
        """The empty folder that sshd wants when it is root."""
        place = pathlib.Path("/run/sshd")
        if os.geteuid() == 0 and not place.exists():
            place.mkdir(mode=0o755)
            self._stack.callback(lambda: place.exists() and place.rmdir())

    def _files(self, client):
        for key in ("host", "user", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)],
                check=True,
            )
        public = (self.folder / "host.pub").read_text()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {public}")
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\nUsePAM no\nStrictModes no\nPidFile none\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"SetEnv HOME={self.home}\n"  # not the user's own, with what its shell does at start
        )
        common = f"User {self.user}\n IdentitiesOnly yes\n GlobalKnownHostsFile /dev/null\n"
        known, own = (
            f"UserKnownHostsFile {self.folder}/known\n",
            f"IdentityFile {self.folder}/user\n",
        )
        here = f" HostName 127.0.0.1\n Port {self.port}\n"
        (self.folder / "config").write_text(
            f"Host board\n{here} {own} {known} {common}"
            f"Host unknown\n{here} {own} UserKnownHostsFile /dev/null\n {common}"
            f"Host refused\n{here} IdentityFile {self.folder}/stranger\n {known} {common}"
            f"Host 127.0.0.1\n {own} {known} {common}"
        )
        self.path.mkdir()
        wrapper = self.path / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {client} -F {self.folder}/config "$@"\n')
        wrapper.chmod(0o755)

    def _listens(self):
        assert self._server.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def break_off(self):
        """Kills the server's ends of the connections that are open; not the shells behind them."""
        for child in _children(self._server.pid):
            for process in (*_children(child), child):
                with contextlib.suppress(OSError):
                    if pathlib.Path(f"/proc/{process}/comm").read_text().startswith("sshd"):
                        os.kill(process, signal.SIGKILL)

    def _stop(self):
        _stop(self._server)
        self._server.stderr.close()

    def close(self):
        """Ends all of it."""
        self._stack.close()


def _children(pid):
    """The processes whose parent it is."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def engine(phone, **how):
    """With this environment's Python, unless a binary is given."""
    if not how.get("binary"):
        how.setdefault("python", sys.executable)
    return bench.Engine(folder=str(phone.folder_there), **how)
