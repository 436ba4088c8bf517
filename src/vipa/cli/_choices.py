"""The first word of a verb whose kinds are found by name."""

import sys

from vipa.io.plugins import Plugins


def choose(program: str, kinds: Plugins, args: list[str]) -> tuple[str, list[str]]:
    """(name, the other arguments). Lists the names where none is given (`--help`), and ends; ValueError without any."""
    if args and args[0] not in ("-h", "--help"):
        return args[0], args[1:]
    if not args:
        raise ValueError(f"say which {kinds.what}; known: {', '.join(kinds.names())}")
    print(f"usage: {program} NAME [options]      ({program} NAME --help says more)\n")
    for name in kinds.names():
        print(f"  {name:<18}{kinds.summary(name)}")
    sys.exit(0)
