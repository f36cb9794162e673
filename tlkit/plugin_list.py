"""`tlkit plugins`: list, describe and check what is installed."""

import inspect

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tlkit import registry, validate
from tlkit.errors import TlkitError, UsageError, did_you_mean


def plugins(*, show: str | None, check: str | None) -> None:
    """List the installed plugins, describe one, or check one.

    Raises:
        UsageError: no plugin has that name.
        TlkitError: the checked plugin fails a check.
    """
    if check is not None:
        run_checks(check)
    elif show is not None:
        describe(show)
    else:
        show_all()


def show_all() -> None:
    """Print every plugin: kind, name, distribution, and what is wrong with it, if anything."""
    table = Table("kind", "name", "from", "what it is", box=None, pad_edge=False)
    for kind in registry.KINDS:
        for name, eps in sorted(registry.entry_points(kind).items()):
            table.add_row(kind, name, escape(", ".join(map(registry.origin, eps))), escape(_first_line(kind, name)))
    Console().print(table)
    print("tlkit plugins show=NAME describes one, tlkit plugins check=NAME tests a backbone.")


def describe(name: str) -> None:
    """Print what a plugin is, where it comes from, and its settings with their defaults.

    Raises:
        UsageError: no plugin has that name.
    """
    name = name.partition("/")[0]  # of a family such as timm/resnet50
    for kind in _kinds_of(name):
        plugin = registry.get(kind, name)
        origins = ", ".join(map(registry.origin, registry.entry_points(kind)[name]))
        print(f"{kind}={name}, from {origins} ({plugin.__module__}:{plugin.__qualname__})\n")
        print(inspect.getdoc(plugin) or "(no description)")
        targets = validate.targets(kind, name)
        parameters = [p for t in targets for p in inspect.signature(t).parameters.values() if p.kind is p.KEYWORD_ONLY]
        print("\nsettings:" if parameters else "\nno settings.")
        for p in parameters:
            default = "required" if p.default is p.empty else f"default {p.default!r}"
            kinds = p.annotation if isinstance(p.annotation, str) else inspect.formatannotation(p.annotation)
            print(f"  {kind}.{p.name}: {kinds}, {default}")


def run_checks(name: str) -> None:
    """Run the conformance checks of a backbone with random weights and print how each went.

    Raises:
        UsageError: no backbone has that name.
        TlkitError: some checks failed.
    """
    from functools import partial

    from tlkit.testing import backbone_checks

    settings = {**registry.choice_settings("backbone", name), "weights": None}
    validate.check_plugin("backbone", settings)
    build = partial(registry.build, "backbone", settings)
    failed = 0
    for title, run in backbone_checks(build):
        try:
            run()
            print(f"passed  {title}")
        except Exception as err:
            failed += 1
            print(f"FAILED  {title}: {type(err).__name__}: {err}")
    if failed:
        raise TlkitError(f"check={name}: {failed} of the checks failed, see above.")
    print(f"{name} passes all checks.")


def _kinds_of(name: str) -> list[str]:
    kinds = [kind for kind in registry.KINDS if name in registry.entry_points(kind)]
    if not kinds:
        known = sorted({n for kind in registry.KINDS for n in registry.entry_points(kind)})
        raise UsageError(f"show={name}: no plugin has that name.{did_you_mean(name, known)} See tlkit plugins.")
    return kinds


def _first_line(kind: str, name: str) -> str:
    try:
        return (inspect.getdoc(registry.get(kind, name)) or "").partition("\n")[0]
    except TlkitError as err:
        return f"BROKEN: {err}"
