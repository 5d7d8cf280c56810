"""An executable in place of Google's benchmark_model, which is in no registry: it replays what a real
one printed. It notes how it was called, and which model it was given, by its content."""

import hashlib
import pathlib

HEAD = """\
#!/bin/sh
echo "$0 $*" >>{log}
for word; do case $word in --graph=*) sha256sum "${{word#--graph=}}" | cut -c 1-64 >>{log};; esac; done
{before}
cat <<'END'
{output}
END
{after}
exit {code}
"""


def write(path, output, *, code=0, before="", after=""):
    """Writes it; it prints `output` and exits with `code`; `before` and `after` are shell."""
    log = f"'{path}.log'"
    text = HEAD.format(log=log, output=output.rstrip("\n"), code=code, before=before, after=after)
    path.write_text(text)
    path.chmod(0o755)
    return path


def calls(path):
    """The flags of each call, without the path."""
    lines = _log(path).splitlines()
    return [line.split(" ")[1:] for line in lines if " " in line]


def saw(path, model):
    """Whether it was given a model with this content."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return digest in _log(path)


def _log(path):
    log = pathlib.Path(f"{path}.log")
    return log.read_text() if log.exists() else ""
