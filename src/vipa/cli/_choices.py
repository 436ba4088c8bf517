"""The first word of a verb whose kinds are found by name."""

from vipa.io.plugins import Plugins


def choose(program: str, kinds: Plugins, args: list[str]) -> tuple[str, list[str]] | None:
    """(name, the other arguments); None after `--help`, which lists the names. ValueError where nothing is said."""
    if args and args[0] not in ("-h", "--help"):
        return args[0], args[1:]
    if not args:
        raise ValueError(f"say which {kinds.what}; known: {', '.join(kinds.names())}")
    print(f"usage: {program} NAME [options]      ({program} NAME --help says more)\n")
    for name in kinds.names():
        print(f"  {name:<18}{kinds.summary(name)}")
    return None
