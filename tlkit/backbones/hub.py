"""Published weights: which exist for an architecture, and fetching their file from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlkit.errors import TlkitError, UsageError, did_you_mean, some

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

_FILE = "model.safetensors"
# Seconds for the first answer: a machine without a network should say so at once.
_PATIENCE = 5.0


def published_config(architecture: str) -> PretrainedCfg | None:
    """Return timm's record of an architecture, "resnet50" or, with the tag of its weights, "resnet50.a1_in1k".

    Raises:
        UsageError: timm has no such architecture, or it has no such tag.
    """
    import timm
    from timm.models import get_pretrained_cfg

    name, _, tag = architecture.partition(".")
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise UsageError(f"timm {timm.__version__} has no architecture {name!r}.{hint} See timm.list_models().")
    try:
        config: PretrainedCfg | None = get_pretrained_cfg(architecture)
    except RuntimeError:
        hint = did_you_mean(tag, _tags(name))
        raise UsageError(f"{name} has no weights tagged {tag!r}.{hint} {_which_exist(name)}") from None
    return config


def fetch_published(architecture: str) -> tuple[str, Path]:
    """Return the hub repository of an architecture's published weights and their file, downloaded if need be.

    Raises:
        TlkitError: none were published in a safe format, or they cannot be fetched.
    """
    config = published_config(architecture)
    if config is None or not config.has_weights:
        raise TlkitError(
            f"no weights are published for {architecture}. {_which_exist(architecture.partition('.')[0])} "
            "Or give your own file, backbone.weights=PATH, or backbone.weights=null to start from random ones."
        )
    filename = config.hf_hub_filename or _FILE
    if not config.hf_hub_id or not filename.endswith(".safetensors"):
        raise TlkitError(
            f"the weights of {architecture} are published as a pickle only ({config.url or config.hf_hub_id}), "
            "which can run code and is never read here. Convert it to safetensors where you trust the file, and give "
            "backbone.weights=FILE.safetensors."
        )
    return config.hf_hub_id, _download(architecture, config.hf_hub_id, filename)


def _tags(name: str) -> list[str]:
    import timm

    return [found.partition(".")[2] for found in timm.list_pretrained(f"{name}.*")]


def _which_exist(name: str) -> str:
    tags = _tags(name)
    return (
        f"Weights exist as {some([f'{name}.{tag}' for tag in tags], 8)}." if tags else f"{name} has no weights at all."
    )


def _download(architecture: str, repository: str, filename: str) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # A probe first: hf_hub_download would try again for minutes.
        get_hf_file_metadata(hf_hub_url(repository, filename), timeout=_PATIENCE)
        return Path(hf_hub_download(repository, filename))
    except Exception as err:  # whatever stands between here and the hub, the way out is the same
        raise TlkitError(_way_out(architecture, repository, filename, err)) from err


def _way_out(architecture: str, repository: str, filename: str, err: Exception) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    reason = "HF_HUB_OFFLINE is set, and they are not in the cache" if HF_HUB_OFFLINE else _first_line(err)
    folder = repository.rpartition("/")[2]
    return (
        f"the weights of {architecture} are {repository!r} on the Hugging Face hub and cannot be fetched: {reason}.\n"
        f"Where there is a network run\n  hf download {repository} config.json {filename} --local-dir {folder}\n"
        "bring that folder here and give backbone.weights=<folder with config.json and model.safetensors>; or copy "
        f"that machine's Hugging Face cache to {HF_HUB_CACHE} (then HF_HUB_OFFLINE=1 keeps all looking there only)."
    )


def _first_line(err: BaseException) -> str:
    text = str(err).strip() or type(err).__name__
    return text.splitlines()[0].rstrip(".")
