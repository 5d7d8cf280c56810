"""A device behind a cable or a network: bring files there, run, bring the answer back, clean up.

All that differs between such devices is a `Transport`: how a shell command gets there, and how a file.
`opened` makes a folder on the device and keeps it while models take their turns. The folder is in the
care of a shell on the device that waits for the end of its standard input: when we close it, die, or
the line breaks, it ends what still runs and removes the folder. So success, failure and a pulled cable
leave the same behind: nothing.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import select
import shlex
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from typing import Protocol

from tfeffi import files
from tfeffi.bench import state
from tfeffi.errors import BadInput

_PATIENCE = 30.0  # seconds for what takes a phone less than one
_EXIT = "tfeffi-exit"  # the last line of a script that came to its end
_MARK = "tfeffi-mark"  # a line between the parts of an output
_READY = re.compile(rb"^tfeffi-ready (.+?)\r?\n", re.MULTILINE)  # a shell may greet before it

_CARE = """
trap "" HUP INT TERM
{first} && mkdir -p {parent} && mkdir -m 700 {folder} &&
{{ echo; echo "tfeffi-ready $(cd {folder} && pwd)"; cat >/dev/null; }}
kill -9 $(cat {folder}/pid 2>/dev/null) 2>/dev/null
rm -rf {folder}
rmdir {parent} 2>/dev/null
true
"""


class DeviceError(BadInput):
    """The device cannot be reached, or cannot do what it is asked for."""


class Transport(Protocol):
    """How to reach a device.

    Attributes:
        name: of the device, such as "adb:0123456789".
        parent: the folder there that ours is made in, as its shell understands it.
    """

    name: str
    parent: str

    def shell(self, script: str) -> list[str]:
        """The command, on this machine, that runs a script in the device's shell."""

    def push(self, path: str, to: str, timeout: float) -> subprocess.CompletedProcess:
        """Copies a file of this machine to a path there."""

    def explain(self, said: str) -> str:
        """One line for why the device cannot be reached, from what the client said."""


@dataclasses.dataclass(frozen=True)
class Done:
    """A script that came to its end there; a negative return code is a signal."""

    returncode: int
    stdout: str
    stderr: str


class Folder:
    """A folder of ours on a device.

    Args:
        transport: how to reach it.
        path: absolute, there.

    Attributes:
        about: its state when the folder was made, see `tfeffi.bench.state`.
    """

    def __init__(self, transport: Transport, path: str):
        self.transport, self.path = transport, path
        self.about = state.read(self.run(state.script()).stdout)
        self._there: dict[str, str] = {}  # by digest

    def run(self, script: str, timeout: float | None = None) -> Done:
        """Runs a script of the shell there, in the folder.

        Args:
            script: its processes are ended with the folder, if they are still there.
            timeout: seconds; default what a device that is well never needs.

        Raises:
            DeviceError: the device went away, or does not answer.
            TimeoutExpired: it took longer than the given time.
        """
        done = self._done(_wrapped(self.path, script), timeout)
        return dataclasses.replace(done, stdout=done.stdout.rpartition(_MARK)[0].rstrip("\n"))

    def observe(self, script: str, timeout: float) -> tuple[Done, dict, dict]:
        """As `run`, and the device's state right before and right after it; all of it in one call."""
        look = f"( {state.script()} )\necho; echo {_MARK}"
        done = self._done(_wrapped(self.path, script, look), timeout)
        before, middle, after = (done.stdout.split(f"\n{_MARK}\n") + ["", ""])[:3]
        seen = dataclasses.replace(done, stdout=middle.rstrip("\n"))
        return seen, state.read(before), state.read(after)

    def _done(self, whole: str, timeout: float | None) -> Done:
        try:
            done = subprocess.run(
                self.transport.shell(whole), stdin=subprocess.DEVNULL, capture_output=True,
                text=True, errors="replace", timeout=timeout or _PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            if timeout:
                raise
            raise DeviceError(_silent(self.transport)) from error
        lines = done.stdout.rstrip().splitlines()
        if not lines or not lines[-1].startswith(_EXIT):
            raise DeviceError(f"the device went away; {self.transport.explain(done.stderr)}")
        code = int(lines[-1].split()[1])
        stdout = "\n".join(lines[:-1]).rstrip("\n")
        return Done(128 - code if code > 128 else code, stdout, done.stderr)

    def put(self, path: str | os.PathLike, executable: bool = False) -> str:
        """Brings a file there, once; what is there already is known by its content, not its size.

        Returns:
            Its path there.

        Raises:
            DeviceError: it does not fit, may not be written, or arrives damaged.
        """
        digest = files.sha256(path)
        if digest not in self._there:
            to = f"{self.path}/{digest[:16]}{pathlib.Path(path).suffix}"
            megabytes = os.path.getsize(path) / 1e6
            try:
                done = self.transport.push(os.fspath(path), to, _PATIENCE + 5 * megabytes)
            except subprocess.TimeoutExpired as error:
                raise DeviceError(
                    f'{self.transport.name} did not take "{path}" within {error.timeout:.0f} s'
                ) from error
            if done.returncode:
                raise DeviceError(_not_written(self, path, done.stderr or done.stdout))
            place = shlex.quote(to)
            seen = self.run(f"chmod {700 if executable else 600} {place}; sha256sum {place}")
            if not seen.returncode and seen.stdout.rpartition("\n")[2].split()[:1] != [digest]:
                raise DeviceError(f'"{path}" arrived damaged on {self.transport.name}; try again')
            self._there[digest] = to
        return self._there[digest]


def _wrapped(folder: str, script: str, look: str = ":") -> str:
    """A script that tells how another one ended, and that one's process to whoever may have to end it.

    Args:
        folder: where it runs.
        script: the other one.
        look: what is run before and after it.
    """
    return (
        f"cd {shlex.quote(folder)} || exit\n{look}\n( {script}\n) & echo $! >pid\n"
        f'wait $!; r=$?; rm -f pid; echo; echo {_MARK}\n{look}\necho; echo "{_EXIT} $r"'
    )


def _not_written(folder: Folder, path: str | os.PathLike, said: str) -> str:
    name, size = folder.transport.name, os.path.getsize(path) / 1e6
    if "No space left" in said or "Disk quota" in said:
        return (
            f'{name} is full: "{path}" ({size:.3g} MB) does not fit into {folder.path}; free some '
            "space, or name another folder with device_folder"
        )
    if re.search("Permission denied|Read-only", said):
        return f"{name} lets nobody write into {folder.path}; name another with device_folder"
    return f'"{path}" did not get there; {folder.transport.explain(said)}'


@contextlib.contextmanager
def opened(transport: Transport, folder: str | None) -> Iterator[Folder]:
    """A new folder on a device; it is removed in the end, whatever happens.

    Args:
        transport: how to reach it.
        folder: in place of the device's usual place; it must be there already.

    Raises:
        DeviceError: the device cannot be reached, or the folder cannot be made.
    """
    base = _quoted(folder) if folder else transport.parent
    first = f"(cd {base}/ >/dev/null)" if folder else f"mkdir -p {base}"
    parent = f"{base}/tfeffi"
    name = f"{parent}/{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryFile() as errors:
        care = subprocess.Popen(
            transport.shell(_CARE.format(first=first, parent=parent, folder=name)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        try:
            made = _made(care)
            if made is None:
                raise DeviceError(_silent(transport))
            if not made:
                _end(care)
                errors.seek(0)
                raise DeviceError(_not_made(transport, errors.read().decode(errors="replace")))
            yield Folder(transport, made)
        finally:
            _end(care)
            care.stdout.close()


def _quoted(folder: str) -> str:
    """A folder's path for the shell there; `~` is the home folder there."""
    home, slash, rest = folder.rstrip("/").partition("/")
    return f'"$HOME"{slash}{shlex.quote(rest)}' if home == "~" else shlex.quote(home + slash + rest)


def _made(care: subprocess.Popen) -> str | None:
    """The folder that the shell there has made; "" if it ended without, None if it does neither."""
    said, end = b"", time.monotonic() + _PATIENCE
    while not (found := _READY.search(said)):
        left = end - time.monotonic()
        if left <= 0 or not select.select([care.stdout], [], [], left)[0]:
            return None
        more = os.read(care.stdout.fileno(), 1 << 16)
        if not more:
            return ""
        said += more
    return found[1].decode(errors="replace")


def _end(care: subprocess.Popen) -> None:
    """Tells the shell there that its work is over, and waits for it."""
    care.stdin.close()
    try:
        care.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        care.kill()
        care.wait()


def _silent(transport: Transport) -> str:
    return f"{transport.name} does not answer within {_PATIENCE:.0f} s; connect it again"


def _not_made(transport: Transport, said: str) -> str:
    if re.search(r"\b(mkdir|cd)\b", said):
        return (
            f"{transport.name} has no place for a folder of ours: {said.strip().splitlines()[-1]}; "
            "name another with device_folder"
        )
    return transport.explain(said)
