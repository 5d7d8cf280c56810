"""A board or computer behind ssh: `ssh:HOST`, `ssh:USER@HOST`, `ssh:HOST:PORT`, `ssh:[::1]`.

What the user's ssh config says of the host counts. Nobody is asked for anything: a key must let us in,
and the host's own key must be known.
"""

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator

from tfeffi.bench.remote import DeviceError

_PORT = re.compile(r"([^:]+|(?:[^@]+@)?\[.+\]):(\d+)")
_REASONS = (
    (
        "Host key verification failed",
        'its host key is not known or has changed; say "ssh {0}" once',
    ),
    ("Permission denied", 'it does not let you in; put your key there: "ssh-copy-id {0}"'),
    ("Could not resolve", "there is no such host"),
    ("Connection refused", "nothing listens there; is sshd running, is the port right?"),
    ("timed out", "it does not answer; is it on, is it in this network?"),
)


class Ssh:
    """See `tfeffi.bench.remote.Transport`.

    Args:
        where: what stands behind "ssh:".
        control: path of the socket over which all calls share one connection.
    """

    parent = '"${XDG_CACHE_HOME:-$HOME/.cache}"'

    def __init__(self, where: str, control: str):
        self.name, host, port = f"ssh:{where}", where, []
        if match := _PORT.fullmatch(where):
            host, port = match[1], ["-p", match[2]]
        self._host = host.replace("[", "").replace("]", "")  # of an address such as [::1]
        self._client = [
            "ssh", "-T", *port, "-o", "BatchMode=yes", "-o", "ConnectTimeout=15",
            "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4",
            "-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=no",
            "--", self._host,
        ]  # fmt: skip

    def shell(self, script: str) -> list[str]:
        """The command here that runs a script there, whatever the user's login shell is."""
        return [*self._client, f"exec sh -c {shlex.quote(script)}"]

    def push(self, path: str, to: str, timeout: float) -> subprocess.CompletedProcess:
        """Copies a file; scp would need an sftp server there."""
        with open(path, "rb") as file:
            return subprocess.run(
                self.shell(f"cat >{shlex.quote(to)}"), stdin=file, capture_output=True, text=True,
                errors="replace", timeout=timeout, check=False,
            )  # fmt: skip

    def explain(self, said: str) -> str:
        """What the client meant."""
        for text, reason in _REASONS:
            if text in said:
                return f"{self.name}: {reason.format(self._host)}"
        lines = [line for line in said.splitlines() if line.strip()]
        return f"{self.name}: {lines[-1] if lines else 'the connection ended at once'}"


@contextlib.contextmanager
def connect(where: str) -> Iterator[Ssh]:
    """The host `where`.

    Raises:
        DeviceError: there is no client, or no host is named.
    """
    if not where:
        raise DeviceError('device "ssh": say which host: ssh:HOST or ssh:USER@HOST')
    try:
        subprocess.run(["ssh", "-V"], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise DeviceError('ssh: there is no client "ssh" on the PATH; install OpenSSH') from error
    with tempfile.TemporaryDirectory(prefix="tfeffi-") as folder:
        yield Ssh(where, os.path.join(folder, "s"))
