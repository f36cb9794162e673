"""Plugins by name. Reads installed metadata only; a plugin is imported when it is asked for by name."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as installed
from importlib.resources import files
from typing import Any

from tlkit.errors import TlkitError, UsageError, did_you_mean

GROUPS = {
    "backbone": "tlkit.backbones",
    "data": "tlkit.datasets",
    "strategy": "tlkit.strategies",
    "models": "tlkit.model_names",
}
KINDS = ("backbone", "data", "strategy")  # what a user chooses by name


def entry_points(kind: str) -> dict[str, list[EntryPoint]]:
    """Every installed plugin of a kind, by name; several distributions may claim one name.

    >>> sorted(entry_points("strategy"))
    ['auto', 'ensemble', 'full', 'linear_probe', 'partial', 'scratch']
    """
    found: dict[str, list[EntryPoint]] = {}
    for ep in installed(group=GROUPS[kind]):
        if ep not in found.setdefault(ep.name, []):
            found[ep.name].append(ep)
    return found


def get(kind: str, name: str) -> Callable[..., Any]:
    """Import and return the plugin object called `name`.

    Raises:
        UsageError: no plugin has that name, or several distributions claim it.
        TlkitError: the plugin cannot be imported; the message names its distribution.
    """
    found = entry_points(kind)
    if name not in found:
        known = choices(kind, families=False)
        raise UsageError(f"no {kind} called {name!r}.{did_you_mean(name, known)} Installed: {', '.join(known)}.")
    if len(found[name]) > 1:
        claims = ", ".join(f"{origin(ep)} ({ep.value})" for ep in found[name])
        raise UsageError(f"the {kind} {name!r} is claimed by {claims}. Uninstall all but one.")
    (ep,) = found[name]
    try:
        plugin: Callable[..., Any] = ep.load()
    except Exception as err:
        raise TlkitError(
            f"the {kind} {name!r} of {origin(ep)} cannot be imported ({ep.value}): {type(err).__name__}: {err}. "
            "Reinstall or remove that distribution."
        ) from err
    return plugin


def build(kind: str, settings: Mapping[str, Any], *context: Any) -> Any:  # noqa: ANN401
    """Call the plugin that `settings["name"]` names with `context` and the other settings."""
    rest = dict(settings)
    return get(kind, rest.pop("name"))(*context, **rest)


def origin(ep: EntryPoint) -> str:
    """Name the distribution, with its version, that an entry point comes from."""
    return f"{ep.dist.name} {ep.dist.version}" if ep.dist else "an unknown distribution"


def model_names(family: str) -> frozenset[str] | None:
    """Models that a family backbone such as timm can build, or None if it publishes no list."""
    if family not in entry_points("models"):
        return None
    names: frozenset[str] = get("models", family)()
    return names


def choice_settings(kind: str, choice: str) -> dict[str, str]:
    """The settings that `KIND=NAME`, or `backbone=FAMILY/MODEL`, stands for; the name need not exist.

    >>> choice_settings("backbone", "timm/resnet50.a1_in1k")
    {'name': 'timm', 'model': 'resnet50.a1_in1k'}
    """
    name, slash, model = choice.partition("/")
    return {"name": name, "model": model} if slash and kind == "backbone" else {"name": choice}


def choices(kind: str, families: bool = True) -> list[str]:
    """What `KIND=` accepts: plugins, our YAML files, and with `families` every model of every family."""
    ours = files("tlkit.conf") / kind
    presets = [path.name.removesuffix(".yaml") for path in ours.iterdir()] if ours.is_dir() else []
    names = sorted({*entry_points(kind), *presets})
    if kind != "backbone" or not families:
        return names
    return names + [f"{name}/{model}" for name in names for model in sorted(model_names(name) or ())]
