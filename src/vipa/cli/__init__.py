"""The command line `vipa`: one thin file per verb.

A verb is a module `vipa.cli.<verb>` (`_` in the name becomes `-`), or an entry point of the group `vipa.verbs`, with a
docstring whose first line is its help and a function `main(args: list[str])`, usually one `tyro.cli` call. Nothing here
lists the verbs, and for `vipa --help` none is imported.

Mistakes of the user (ValueError, OSError, a missing optional package) print one line and exit with 2; `--debug`
shows the traceback instead.
"""

import sys

from vipa.io.plugins import Plugins

VERBS = Plugins("verb", "vipa.cli", "vipa.verbs")


def verbs() -> list[str]:
    """Names of all verbs, sorted."""
    return [name.replace("_", "-") for name in VERBS.names()]


def help_text() -> str:
    """What `vipa --help` prints."""
    lines = ["usage: vipa VERB [options] [--debug]      (vipa VERB --help says more)", ""]
    lines += [f"  {name.replace('_', '-'):<16}{VERBS.summary(name)}" for name in VERBS.names()]
    return "\n".join(lines)


def error_line(error: BaseException) -> str:
    """One line for a user, without the exception's name."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError):
        return f"{error}. `vipa doctor` says which optional part of the installation has it."
    return " ".join(str(error).split()) or type(error).__name__


def main(argv: list[str] | None = None) -> None:
    """Runs one verb. Exit codes: 0 done, 2 a user's mistake, 130 interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if not args or args[0] in ("-h", "--help", "help"):
        print(help_text())
        return
    if args[0] == "--version":
        from vipa import __version__

        print(f"vipa {__version__}")
        return
    try:
        VERBS.load(args[0]).main(args[1:])
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if debug:
            raise
        print(f"vipa {args[0]}: {error_line(error)}", file=sys.stderr)
        sys.exit(2)
