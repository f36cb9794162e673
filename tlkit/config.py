"""Hydra glue: where configurations come from, and the wording of Hydra's errors. Never imports torch."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from tlkit import registry
from tlkit.errors import UsageError, did_you_mean

# Launchers of sweeps, and the extras that bring them.
_LAUNCHERS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}


class RegisteredPlugins(ConfigSource):
    """Serves `backbone/NAME`, `backbone/FAMILY/MODEL`, `data/NAME` and `strategy/NAME` without YAML files.

    It serves names that nobody registered as well: validation then reports a wrong name together with
    everything else that is wrong, where Hydra would stop at the first.
    """

    list_families = False  # completion sets it; help and errors stay short without a thousand timm models

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the search path entry that this source serves."""
        return "tlkit"

    def available(self) -> bool:
        """Return True: the registry is always there."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Tell whether a path is one of the groups that plugins fill."""
        return config_path in ("", *registry.KINDS)

    def is_config(self, config_path: str) -> bool:
        """Tell whether a path is a choice in one of these groups."""
        return self._settings(config_path) is not None

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the settings that a choice stands for."""
        settings = self._settings(config_path)
        if settings is None:
            raise ConfigLoadError(f"no registered plugin for {config_path!r}")
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(settings), header={"package": None})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the groups, or the registered names of one of them."""
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else list(registry.KINDS)
        if results_filter == ObjectType.GROUP or config_path not in registry.KINDS:
            return []
        return registry.choices(config_path, self.list_families)

    @staticmethod
    def _settings(config_path: str) -> dict[str, str] | None:
        kind, _, choice = config_path.partition("/")
        choice = choice.removesuffix(".yaml")
        return registry.choice_settings(kind, choice) if kind in registry.KINDS and choice else None


class PluginConfigs(SearchPathPlugin):
    """Adds the user's folder, the conf folder of every installed plugin, unimported, and the registered plugins."""

    folder: Path | None = None  # of --config-dir; Hydra would put it last, where registered names hide it

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append to Hydra's search path; what stands first wins, so plugins cannot shadow our own names."""
        if self.folder is not None:
            search_path.append(provider="command-line", path=f"file://{self.folder}")
        for ep in entry_points(group="tlkit.conf"):
            package, *folders = ep.value.split(".")
            spec = find_spec(package)
            if spec is not None and spec.submodule_search_locations:
                folder = Path(spec.submodule_search_locations[0], *folders)
                search_path.append(provider=registry.origin(ep), path=f"file://{folder}")
        search_path.append(provider="installed plugins", path="tlkit://")


def register() -> None:
    """Make Hydra see plugins; safe to call again."""
    Plugins.instance().register(RegisteredPlugins)
    Plugins.instance().register(PluginConfigs)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", text.replace("++", ""))[:100]


# Where this is imported, and not when a command begins: a launcher's workers name run directories, too.
OmegaConf.register_new_resolver("tlkit.slug", _slug, replace=True)


def admit(words: Iterable[str]) -> list[str]:
    """Let settings that no YAML file declares through Hydra; validation then reports all the wrong ones together.

    Values that are no Hydra expression, such as most regular expressions and paths with brackets, are quoted.

    >>> admit(["backbone=vgg16", "backbone.width=8", "sed=2", "hydra.run.dir=x", "~data", "-m"])
    ['backbone=vgg16', '++backbone.width=8', '++sed=2', 'hydra.run.dir=x', '~data', '-m']
    """
    return [f"++{_quoted(word)}" if _is_setting(word) else word for word in words]


def _quoted(word: str) -> str:
    key, _, value = word.partition("=")
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return f"{key}={quoted(value)}"
    return word


def quoted(value: str) -> str:
    r"""Write a text so that Hydra reads just that: it takes a backslash as itself, but for those before a quote.

    >>> quoted("it's")
    "'it\\'s'"
    """
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"


def _is_setting(word: str) -> bool:
    key = re.match(r"([A-Za-z_]\w*)(\.[\w.]+)?=", word)
    return key is not None and key[1] != "hydra" and (key[2] is not None or key[1] not in registry.KINDS)


def compose(command: str, choices: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """Compose a command's configuration in process, for Python and notebooks.

    Args:
        command: name of the command.
        choices: setting to value; a string for a group is its option, a mapping is `{"name": option, setting: value}`.

    Returns:
        the configuration as plain containers, and the run directory that it names.

    Raises:
        UsageError: Hydra cannot compose it.
    """
    register()
    groups = {group: _choice(choices[group]) for group in registry.KINDS if _choice(choices.get(group))}
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # a Hydra program may call us
    try:
        with hydra.initialize_config_module("tlkit.conf", version_base="1.3"):
            words = [f"{group}={name}" for group, name in groups.items()]
            cfg = hydra.compose(f"_{command}", words, return_hydra_config=True)
        OmegaConf.set_struct(cfg, False)
        for path, value in _settings(choices):
            OmegaConf.update(cfg, path, str(value) if isinstance(value, Path) else value, force_add=True)
        HydraConfig.instance().set_config(cfg)
        run_dir = Path(cfg.hydra.run.dir)
    except (HydraException, OmegaConfBaseException) as err:
        raise UsageError(explain(err) or str(err)) from err
    finally:
        GlobalHydra.instance().hydra = outer
    del cfg["hydra"]
    return plain(cfg), run_dir


def _choice(value: Any) -> str | None:  # noqa: ANN401
    """Return the option that a value chooses for its group."""
    name = value.get("name") if isinstance(value, Mapping) else value
    return name if isinstance(name, str) else None


def _settings(choices: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every setting that is not the choice of a group."""
    for key, value in choices.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", setting) for name, setting in value.items() if name != "name")
        elif key not in registry.KINDS:
            yield key, value


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolve a configuration into plain containers.

    Raises:
        UsageError: a mandatory value is missing.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UsageError(f"give a value: {' '.join(f'{key}=...' for key in missing)}")
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def explain(err: BaseException) -> str | None:
    """Word an error of Hydra or OmegaConf about what the user typed; None for any other error."""
    cause = err if isinstance(err, OmegaConfBaseException) else err.__cause__
    if isinstance(err, MissingConfigException) and err.options is not None and err.missing_cfg_file:
        group, _, choice = err.missing_cfg_file.rpartition("/")
        if group == "hydra/launcher" and choice in _LAUNCHERS:
            return f"{group}={choice}: it is not installed. pip install 'tlkit[{_LAUNCHERS[choice]}]'"
        return (
            f"{group}={choice}: no such option.{did_you_mean(choice, err.options)} Options: {', '.join(err.options)}."
        )
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
        return f"{cause.full_key}: no such setting.{did_you_mean(str(cause.key), map(str, cause.parent_node))}"
    if isinstance(cause, MissingMandatoryValue):
        return f"give a value: {cause.full_key}=..."
    if isinstance(err, HydraException | OmegaConfBaseException):
        message = f"{err}\n{cause}" if cause not in (None, err) else str(err)
        return message.replace("++", "")  # which `admit` added
    return None
