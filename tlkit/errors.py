"""Errors a user can act on; the command line prints them without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class TlkitError(Exception):
    """A problem the user can fix; the message says what, where, and what to do next."""

    exit_code = 1


class UsageError(TlkitError):
    """The words of a command, or the settings of a function, make no sense."""

    exit_code = 2


class Terminated(BaseException):
    """The process was told to end (SIGTERM); like KeyboardInterrupt no error that anybody handles."""

    exit_code = 143  # what shells report for a program that SIGTERM ended


def told(err: BaseException) -> str:
    """Return the message of an exception and the notes that were added to it on its way.

    >>> err = TlkitError("the disk is full.")
    >>> err.add_note("Free some space.")
    >>> told(err)
    'the disk is full. Free some space.'
    """
    return " ".join([str(err), *getattr(err, "__notes__", ())]).strip()


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return " Did you mean 'a' or 'b'?", or an empty string when nothing is close.

    >>> did_you_mean("resnte50", ["resnet50", "vgg16"])
    " Did you mean 'resnet50'?"
    >>> did_you_mean("zebra", ["resnet50", "vgg16"])
    ''
    """
    close = get_close_matches(name, list(options), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def some(items: Iterable[object], most: int = 5) -> str:
    """List the first few items and count the rest.

    >>> some("abcdefg", most=3)
    'a, b, c and 4 more'
    """
    texts = [str(item) for item in items]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
