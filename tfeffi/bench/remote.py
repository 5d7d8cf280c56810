"""A device behind a cable or a network: bring files there, run, bring the answer back, clean up.

All that differs between such devices is a `Transport`: how a shell command gets there, and how a file.
`opened` makes a folder on the device and keeps it while models take their turns. The folder is in the
care of a shell on the device that waits for the end of its standard input: when we close it, die, or
the line breaks, it ends what still runs and removes the folder. So success, failure and a pulled cable
leave the same behind: nothing.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import select
import shlex
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from typing import Protocol

from tfeffi import files
from tfeffi.bench import engine, native, state
from tfeffi.errors import BadInput
from tfeffi.export import litert
from tfeffi.export.flatbuffer import ModelError

_RUNNER = pathlib.Path(__file__).with_name("runner.py")
_PATIENCE = 30.0  # seconds for what takes a phone less than one
_EXIT = "tfeffi-exit"  # the last line of a script that came to its end
_MARK = "tfeffi-mark"  # a line between the parts of an output
_MISSING = re.compile(r"No module named '([\w.]+)'")

_CARE = """
trap "" HUP INT TERM
mkdir -p {parent} && mkdir -m 700 {folder} && {{ echo "ready $(cd {folder} && pwd)"; cat >/dev/null; }}
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
            if not seen.returncode and seen.stdout.split()[:1] != [digest]:
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
        folder: in place of the device's usual place.

    Raises:
        DeviceError: the device cannot be reached, or the folder cannot be made.
    """
    parent = f"{shlex.quote(folder.rstrip('/')) if folder else transport.parent}/tfeffi"
    name = f"{parent}/{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryFile() as errors:
        care = subprocess.Popen(
            transport.shell(_CARE.format(parent=parent, folder=name)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        try:
            ready, _, _ = select.select([care.stdout], [], [], _PATIENCE)
            if not ready:
                raise DeviceError(_silent(transport))
            said = care.stdout.readline().decode(errors="replace").strip()
            if not said.startswith("ready "):
                care.wait(_PATIENCE)
                errors.seek(0)
                raise DeviceError(_not_made(transport, errors.read().decode(errors="replace")))
            yield Folder(transport, said.removeprefix("ready "))
        finally:
            care.stdin.close()
            try:
                care.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                care.kill()
                care.wait()
            care.stdout.close()


def _silent(transport: Transport) -> str:
    return f"{transport.name} does not answer within {_PATIENCE:.0f} s; connect it again"


def _not_made(transport: Transport, said: str) -> str:
    if "mkdir" in said:
        return (
            f"{transport.name} has no place for a folder of ours: {said.strip().splitlines()[-1]}; "
            "name another with device_folder"
        )
    return transport.explain(said)


def measure(folder: Folder, path: str | os.PathLike, request: dict, timeout: float) -> dict:
    """One turn of a model there; see `tfeffi.bench.devices`.

    Raises:
        ModelError: the model cannot be run.
        DeviceError: the device cannot do it.
    """
    name = folder.transport.name
    engine.check_cpus(request, folder.about.get("cores"), name)
    request = {**request, "model": folder.put(path)}
    if request.get("delegate") and os.path.isfile(request["delegate"]):
        request["delegate"] = folder.put(request["delegate"], executable=True)
    run = _with_binary if request.get("binary") else _with_python
    try:
        answer, before, after = run(folder, path, request, timeout)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f'"{path}" did not finish within {timeout:g} s on {name}') from error
    return state.around(answer, before, after)


def _with_binary(folder: Folder, path, request: dict, timeout: float) -> tuple[dict, dict, dict]:
    binary = folder.put(request["binary"], executable=True)
    names = native.input_names(path)
    words = native.command(binary, request["model"], request, names, timeout)
    done, before, after = folder.observe(f"exec {shlex.join(words)} 2>&1", timeout)
    machine, name = before.get("machine", ""), folder.transport.name
    text = "\n".join((done.stdout, done.stderr))  # the shell's own words are there
    return native.answer(done.returncode, text, path, request, machine, name), before, after


def _with_python(folder: Folder, path, request: dict, timeout: float) -> tuple[dict, dict, dict]:
    python, name = request.get("python", "python3"), folder.transport.name
    words = [python, "-B", folder.put(_RUNNER), json.dumps(request)]
    done, before, after = folder.observe(f"exec {shlex.join(words)}", timeout)
    if done.returncode in (126, 127):
        raise DeviceError(
            f'{name} has no Python "{python}"; name it with device_python, or give the native '
            "program, benchmark_binary"
        )
    if missing := _MISSING.search(done.stdout + done.stderr):
        raise DeviceError(
            f'the Python "{python}" of {name} has no {missing[1]}: pip install ai-edge-litert there, '
            "or give the native program, benchmark_binary"
        )
    return litert.answer(done.returncode, done.stdout, done.stderr, path), before, after
