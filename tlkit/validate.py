"""Check a composed configuration against the signatures of what it names: every problem at once, before any work."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from tlkit import registry
from tlkit.errors import TlkitError, UsageError, did_you_mean, some

Target = Callable[..., Any]


def check(command: Target, config: Mapping[str, Any]) -> None:
    """Raise one UsageError that lists every setting of `config` that does not fit, with its key path.

    Args:
        command: the function whose keyword-only parameters are the top-level settings.
        config: the composed configuration, as plain containers.
    """
    _refuse(problems_of(command, config))


def check_plugin(kind: str, settings: Mapping[str, Any]) -> None:
    """Raise one UsageError that lists every setting of one plugin that does not fit."""
    _refuse(_plugin_problems(kind, settings))


def _refuse(found: Iterator[str]) -> None:
    problems = list(found)
    if len(problems) == 1:
        raise UsageError(problems[0])
    if problems:
        raise UsageError("\n  ".join(["the configuration is not usable:", *problems]))


def problems_of(command: Target, config: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with each setting of `config`, top level first."""
    yield from misfits([command], config)
    if isinstance(config.get("seed"), int) and not 0 <= config["seed"] < 2**32:
        yield f"seed: expected a whole number from 0 to 2**32 - 1, got {config['seed']}."
    for kind in registry.KINDS:
        if isinstance(config.get(kind), dict) and config[kind]:
            yield from _plugin_problems(kind, config[kind])
    for group, targets_of in _GROUP_TARGETS.items():
        if isinstance(config.get(group), dict) and config[group]:
            yield from (f"{group}.{problem}" for problem in misfits(targets_of(), config[group]))


def _plugin_problems(kind: str, settings: Mapping[str, Any]) -> Iterator[str]:
    rest = dict(settings)
    name = str(rest.pop("name", ""))
    if not name:
        yield f"{kind}: choose one by name, {kind}=NAME: {', '.join(registry.choices(kind, families=False))}."
        return
    try:
        yield from _unknown_model(kind, name, rest)
        accepting = targets(kind, name)
    except TlkitError as err:
        yield f"{kind}={'/'.join([name, *filter(None, [rest.get('model')])])}: {err}"
        return
    hint = _of_another_strategy if kind == "strategy" else None
    yield from (f"{kind}.{problem}" for problem in misfits(accepting, rest, hint))


def _of_another_strategy(setting: str) -> str:
    """Say which strategies have a setting, for whoever gives it to one that has not, such as the default."""
    having = []
    for name in sorted(registry.entry_points("strategy")):
        with suppress(TlkitError):
            having += [name] if setting in inspect.signature(registry.get("strategy", name)).parameters else []
    return f" It is a setting of {' and '.join(f'strategy={name}' for name in having)}." if having else ""


def targets(kind: str, name: str) -> list[Target]:
    """Return the functions whose keyword-only parameters are the settings of a plugin.

    Raises:
        TlkitError: there is no such plugin, or it cannot be imported.
    """
    if kind != "data":
        return [registry.get(kind, name)]
    from tlkit.data import prepare  # what all sources share

    return [registry.get(kind, name), prepare]


def _unknown_model(kind: str, name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    known = registry.model_names(name) if kind == "backbone" else None
    model = settings.get("model")
    if known is not None and isinstance(model, str) and model.split(".")[0] not in known:
        yield f"{kind}={name}/{model}: {name} has no model called {model!r}.{did_you_mean(model, known)}"


def misfits(
    functions: list[Target], settings: Mapping[str, Any], hint: Callable[[str], str] | None = None
) -> Iterator[str]:
    """Say which settings the keyword-only parameters of `functions` do not accept, and which they miss.

    Args:
        functions: what the settings are for.
        settings: name to value.
        hint: what to say about a setting that they do not have, if there is something to say.

    >>> def knn(*, k: int, metric: str = "cosine") -> None: ...
    >>> list(misfits([knn], {"k": "five", "metrik": "l2"}))
    ["metrik: no such setting. Did you mean 'metric'? Settings: k, metric.", "k: expected int, got 'five'."]
    """
    parameters = [p for target in functions for p in inspect.signature(target).parameters.values()]
    accepted = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    accepts_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in sorted(settings.keys() - accepted.keys()) if not accepts_any else []:
        elsewhere = hint(name) if hint else ""
        known = did_you_mean(name, accepted) + (elsewhere or f" Settings: {some(accepted, 12) or 'none'}.")
        yield f"{name}: no such setting.{known}"
    hints = {name: hint for target in functions for name, hint in _hints(target).items()}
    for name, parameter in accepted.items():
        hint = hints.get(name, Any)
        if name not in settings:
            if parameter.default is parameter.empty:
                yield f"{name}: a value is required."
        elif not fits(settings[name], hint):
            yield f"{name}: expected {_spell(hint)}, got {settings[name]!r}."


def fits(value: Any, hint: Any) -> bool:  # noqa: ANN401
    """Tell whether a YAML value suits an annotation; annotations YAML cannot express are left to the plugin.

    >>> fits(1, float), fits(True, int), fits([1, 2.5], list[float]), fits("x", list[float] | None)
    (True, False, True, False)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list and arguments:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    plain = origin or hint
    return isinstance(value, plain) if plain in (bool, str, list, dict, types.NoneType) else True


def _spell(hint: Any) -> str:  # noqa: ANN401
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_spell, typing.get_args(hint)))
    if typing.get_origin(hint) is list and typing.get_args(hint):
        return f"list[{_spell(typing.get_args(hint)[0])}]"
    return "null" if hint is types.NoneType else inspect.formatannotation(hint)


def _hints(target: Target) -> dict[str, Any]:
    """Resolve each annotation by itself: those of objects that tlkit passes may exist under TYPE_CHECKING only."""
    function = target.func if isinstance(target, partial) else target
    function = inspect.unwrap(function.__init__ if inspect.isclass(function) else function)
    hints: dict[str, Any] = {}
    for name, annotation in inspect.get_annotations(function).items():
        alone = types.FunctionType((lambda: None).__code__, function.__globals__)
        alone.__annotations__ = {name: annotation}
        with suppress(NameError):
            hints |= typing.get_type_hints(alone)
    return hints


def _codes_settings() -> list[Target]:
    from tlkit.codes import CodesStore

    return [CodesStore]


def _cache_settings() -> list[Target]:
    from tlkit.codes import cache_at

    return [cache_at]


def _trainer_settings() -> list[Target]:
    from pytorch_lightning import Trainer  # slow, but only asked for when a trainer setting was given

    from tlkit.training.compiling import compiled

    return [compiled, Trainer]


_GROUP_TARGETS: dict[str, Callable[[], list[Target]]] = {
    "codes": _codes_settings,
    "cache": _cache_settings,
    "trainer": _trainer_settings,
}
