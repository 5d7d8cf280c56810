"""How every binary runs: absl flags, quiet TensorFlow, one line and exit code 2 on bad input."""

import os
import signal
import sys
import warnings

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # before TensorFlow is imported; a tool's own process

from absl import app, flags

from tfeffi.errors import BadInput

_OF_CONFIG = f"{BadInput.__module__}.{BadInput.__name__}: "  # before what a config file raises


def _warning(message, *_, **__) -> str:
    """A warning as a user of a tool wants it: one line, without the source that it came from."""
    name = os.path.basename(sys.argv[0]).removesuffix(".py")
    return f"{name}: warning: {' '.join(str(message).split())}\n"


def _fail(error: Exception | str) -> int:
    name = os.path.basename(sys.argv[0]).removesuffix(".py")
    first_line = " ".join(str(error).split())
    print(f"{name}: {first_line}", file=sys.stderr)
    return 2


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; running the config file is part of it, so that anything may be raised."""
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            getattr(
                flags.FLAGS["config"].value, "to_dict", None
            )  # a missing file shows at first use
        return rest
    except flags.Error as error:
        last = str(error).strip().splitlines()[-1].removeprefix(_OF_CONFIG)
        sys.exit(_fail(last if "config file" in str(error) else error))
    except Exception as error:
        text = str(error).replace("\\n", " ").replace("\\'", "'").strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":  # a KeyError shows a repr
            text = text[1:-1]
        if text.isidentifier():
            sys.exit(
                _fail(f'--config has no key "{text}"; write it into the file, then override it')
            )
        sys.exit(_fail(f"--config: {text.splitlines()[-1] if text else type(error).__name__}"))


def import_tensorflow() -> None:
    """Imports TensorFlow without its greeting, which would stand before a tool's own lines."""
    from tfeffi import quiet

    with quiet.native_code():
        import tensorflow  # noqa: F401


def _show_in_help(tool) -> None:
    """Makes --help print the tool's docstring and flags: a console script's main module has none."""
    sys.modules["__main__"].__doc__ = tool.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(tool.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _terminate(number, _):
    """Unwinds as an error does: what the tool has started is ended, what is half written removed."""
    sys.exit(128 + number)


def run(main) -> None:
    """Runs `main(argv)` as an absl app.

    Args:
        main: a function of the positional arguments; it raises BadInput for what the user can mend.
    """

    _show_in_help(sys.modules[main.__module__])
    warnings.formatwarning = _warning
    signal.signal(signal.SIGTERM, _terminate)

    def guarded(argv):
        if len(argv) > 1:
            return _fail(BadInput(f'unexpected argument "{argv[1]}"; see --help'))
        try:
            return main(argv)
        except (BadInput, OSError) as error:  # OSError: a disk that is full, no permission
            return _fail(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    app.run(guarded, flags_parser=_parse)
