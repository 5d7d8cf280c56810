"""A phone, or whatever else `adb` reaches: `adb:SERIAL`, or `adb` if just one is attached."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

from tfeffi.bench.remote import DeviceError

_ADVICE = {
    "unauthorized": "unlock it, and allow this computer in the dialogue that it shows",
    "offline": 'plug it in again, or say "adb reconnect offline"',
    "no permissions": "this user may not open the USB device; see the udev rules of Android's pages",
}


class Adb:
    """See `tfeffi.bench.remote.Transport`."""

    parent = "/data/local/tmp"

    def __init__(self, serial: str):
        self.name = f"adb:{serial}"
        self._client = ["adb", "-s", serial]

    def shell(self, script: str) -> list[str]:
        """The command here that runs a script there."""
        return [*self._client, "shell", script]

    def push(self, path: str, to: str, timeout: float) -> subprocess.CompletedProcess:
        """Copies a file."""
        return subprocess.run(
            [*self._client, "push", path, to], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=timeout, check=False,
        )  # fmt: skip

    def explain(self, said: str) -> str:
        """The last line of what the client said."""
        lines = [line for line in said.splitlines() if line.strip()] or ["the connection broke"]
        reason = lines[-1].removeprefix("adb: ").removeprefix("error: ")
        return f'{self.name}: {reason}; connect it again, see "adb devices"'


@contextlib.contextmanager
def connect(where: str) -> Iterator[Adb]:
    """The device with the serial number `where`, or else the only one.

    Raises:
        DeviceError: there is no client, no such device, a choice, or it does not let us in.
    """
    attached = _attached()
    listed = ", ".join(f"{s} ({' '.join(t)})" for s, t in attached.items()) or "none"
    where = where or os.environ.get("ANDROID_SERIAL", "")
    if not where and len(attached) != 1:
        what = "no device is attached: plug one in and allow USB debugging there"
        if attached:
            what = (
                f"{len(attached)} devices are attached: {listed}; choose one: --device=adb:SERIAL"
            )
        raise DeviceError(f"adb: {what}")
    serial = where or next(iter(attached))
    if serial not in attached:
        raise DeviceError(f'adb: there is no device "{serial}"; attached: {listed}')
    status = " ".join(attached[serial])
    if not status.startswith("device"):
        advice = next((a for s, a in _ADVICE.items() if status.startswith(s)), "see adb devices")
        raise DeviceError(f"adb:{serial} is {status.split(' transport_id')[0]}: {advice}")
    yield Adb(serial)


def _attached() -> dict[str, list[str]]:
    """The words of `adb devices -l` by serial number: the status, then what it is."""
    try:
        done = subprocess.run(
            ["adb", "devices", "-l"], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError as error:
        raise DeviceError(
            'adb: there is no client "adb" on the PATH; install it (Debian: apt install adb; else '
            "Android's SDK Platform-Tools)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError('adb: its server does not answer; say "adb kill-server"') from error
    if done.returncode:
        raise DeviceError(f"adb: {' '.join(done.stderr.split())}")
    lines = done.stdout.partition("List of devices attached")[2].splitlines()
    rows = (line.split() for line in lines if line.strip())
    return {serial: [w for w in words if "transport_id:" not in w] for serial, *words in rows}
