"""What a device tells of itself: its processor, and how hot and how fast it is just now."""

import shlex

# Builtins of the shell wherever possible: a phone has a hundred thermal zones, and forks are slow.
_SCRIPT = r"""
root=%s
echo "machine $(uname -m)"
n=0; for c in "$root"/sys/devices/system/cpu/cpu[0-9]*; do [ -d "$c" ] && n=$((n+1)); done
[ $n -gt 0 ] && echo "cores $n"
command -v getprop >/dev/null && echo "product $(getprop ro.product.model) $(getprop ro.soc.model)"
m="$root"/proc/device-tree/model; [ -r "$m" ] && echo "board $(tr -d '\0' <"$m")"
grep -m 1 -E "^(model name|Hardware)" "$root"/proc/cpuinfo 2>/dev/null
for z in "$root"/sys/class/thermal/thermal_zone*; do
  t=; k=; { read t <"$z"/temp; read k <"$z"/type; } 2>/dev/null
  [ -n "$t" ] && echo "zone ${z##*_zone} $t $k"
done
for c in "$root"/sys/devices/system/cpu/cpu[0-9]*; do
  f=; { read f <"$c"/cpufreq/scaling_cur_freq; } 2>/dev/null; [ -n "$f" ] && echo "clock ${c##*/} $f"
done
true
"""


def script(root: str = "") -> str:
    """The shell script that prints what `read` understands.

    Args:
        root: in place of "/".
    """
    return _SCRIPT % shlex.quote(root)


def read(text: str) -> dict:
    """The script's output.

    Returns:
        Of "machine", "cores", "cpu", "temperature_c" (°C by thermal zone) and "frequency_mhz" (by
        processor) those that the device tells.
    """
    found, zones, clocks = {}, {}, {}
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "machine" and rest:
            found["machine"] = rest
        elif key == "cores":
            found["cores"] = int(rest)
        elif key == "product" and rest.strip():
            found["cpu"] = rest.strip()
        elif key == "board" and rest.strip():
            found.setdefault("cpu", rest.strip())
        elif line.startswith(("model name", "Hardware")):
            found.setdefault("cpu", line.partition(":")[2].strip())
        elif key == "zone":
            number, value, kind = (rest + "  ").split(" ", 2)
            if _plausible(celsius := _celsius(value)):
                zones[f"{number} {kind.strip()}".strip()] = celsius
        elif key == "clock":
            cpu, _, khz = rest.partition(" ")
            if khz.isdigit() and int(khz):
                clocks[cpu] = int(khz) / 1000
    if zones:
        found["temperature_c"] = zones
    if clocks:
        found["frequency_mhz"] = clocks
    return found


def _celsius(text: str) -> float | None:
    """Thermal zones tell thousandths of a degree; some old phones tenths, or whole ones."""
    try:
        value = float(text)
    except ValueError:
        return None
    if abs(value) >= 1000:
        return value / 1000
    return value / 10 if abs(value) > 150 else value


def _plausible(celsius: float | None) -> bool:
    """A sensor that is off says 0, or something like -274."""
    return celsius is not None and -60 < celsius < 200 and celsius != 0


def around(answer: dict, before: dict, after: dict) -> dict:
    """An answer together with the state of the device before and after it was measured.

    What the device is called counts for more than what a program there knows of its processor.
    """
    given = {key: before[key] for key in ("machine", "cores", "cpu") if key in before}
    for key in ("temperature_c", "frequency_mhz"):
        for when, seen in (("before", before), ("after", after)):
            if key in seen:
                given[f"{key}_{when}"] = seen[key]
    named = {"cpu": before["cpu"]} if "cpu" in before else {}
    return {**given, **answer, **named}
