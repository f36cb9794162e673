"""Images in class folders, with optional train, val and test folders on top."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tlkit.data.imagedata import ImageData, Strings, by_name
from tlkit.data.images import EXTENSIONS, hidden, list_images
from tlkit.data.splits import split_named
from tlkit.errors import TlkitError, UsageError, did_you_mean, some


def folder(*, root: str, group: str | None = None) -> ImageData:
    """List a folder that holds one folder of images a class, however deep inside it the images lie.

    If all visible folders in `root` are named after splits (train; val, valid or validation; test) and train is one of
    them, they are the splits, with the class folders inside. Hidden files do not count; no image is opened.

    Args:
        root: The folder.
        group: Regular expression searched in each image's path below `root` ("ants/p07_1.jpg"); its first group, or
            the whole match, names what must stay on one side of a split, such as a patient.

    Raises:
        UsageError: `group` is no regular expression.
        TlkitError: No such folder, another layout, an empty class folder, or a path that `group` does not match.
    """
    pattern = _compiled(group)
    top = existing_folder(root, "data.root")
    splits = _split_folders(top)
    parts = splits or {"": top}
    beside = sum(_loose(part) for part in dict.fromkeys([top, *parts.values()]))
    rows, ignored = _list(parts)
    prefix = len(top.as_posix().rstrip("/")) + 1
    files = tuple(path.as_posix()[prefix:] for _, _, path in rows)
    classes, labels = by_name(name for _, name, _ in rows)
    _check_depth(top, classes)
    return ImageData(
        name="folder",
        images=[path for _, _, path in rows],
        files=files,
        labels=labels,
        classes=classes,
        split=np.array([split for split, _, _ in rows]) if splits else None,
        groups=_groups(pattern, files) if pattern else None,
        source={"root": str(top), "group": group},
        ignored=ignored + beside,
    )


def existing_folder(root: str, key: str) -> Path:
    """Return the absolute path of a folder that a setting names.

    Raises:
        TlkitError: It does not exist; similar names beside it are suggested.
    """
    path = Path(root).expanduser().absolute()
    if path.is_dir():
        return path
    if path.exists():
        raise TlkitError(f"{key}={root}: {path} is a file, not a folder.")
    beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    where = "" if path.parent.is_dir() else f" {path.parent} does not exist either."
    raise TlkitError(f"{key}={root}: no such folder: {path}.{where}{did_you_mean(path.name, beside)}")


def _list(parts: dict[str, Path]) -> tuple[list[tuple[str, str, Path]], int]:
    """Return (split, class, path) of every image, and the number of other files."""
    rows: list[tuple[str, str, Path]] = []
    empty: list[Path] = []
    ignored = 0
    for split, part in parts.items():
        for home in _folders(part):
            images, others = list_images(home)
            ignored += others
            rows += [(split, home.name, path) for path in images]
            if not images:
                empty.append(home)
    if not rows:
        raise TlkitError(f"data.root: no images below {' or '.join(map(str, parts.values()))}; {_LAYOUT}")
    if empty:
        raise TlkitError(f"data.root: class folders without any image: {some(empty)}. Fill or remove them.")
    return rows, ignored


_LAYOUT = "expected one folder of images for each class, such as ROOT/ants/1.jpg or ROOT/train/ants/1.jpg."


def _loose(part: Path) -> int:
    """Count the files beside class folders; images among them are an error, since nobody knows their class."""
    files = [entry.name for entry in _visible(part) if not entry.is_dir()]
    if images := sorted(name for name in files if Path(name).suffix.lower() in EXTENSIONS):
        raise TlkitError(
            f"data.root: images lie directly in {part}: {some(images)}; {_LAYOUT} "
            "For a list of files with labels use data=manifest."
        )
    return len(files)


def _folders(parent: Path) -> list[Path]:
    return sorted((entry for entry in _visible(parent) if entry.is_dir()), key=lambda entry: entry.name)


def _visible(parent: Path) -> list[Path]:
    try:
        return [entry for entry in parent.iterdir() if not hidden(entry.name)]
    except OSError as error:
        raise TlkitError(f"data.root: cannot list {parent}: {error.strerror}.") from error


def _split_folders(top: Path) -> dict[str, Path] | None:
    """Return the folder of each split, or None where the folders are classes.

    Raises:
        TlkitError: Some folders look like splits and others do not, or two stand for one split.
    """
    named = {entry: split_named(entry.name) for entry in _folders(top)}
    splits = {split: entry for entry, split in named.items() if split}
    if len(splits) < 2 and not (splits and len(named) == 1):
        return None  # a single "train" among others may well be a class: cars, trains and ships
    others = [entry.name for entry, split in named.items() if not split]
    if others or "train" not in splits:
        what = f"and other folders ({some(others)})" if others else "but no train folder"
        names = some(entry.name for entry in splits.values())
        raise TlkitError(
            f"data.root: {top} holds split folders ({names}) {what}, so it is unclear what the classes are."
        )
    if len(splits) < len(named):
        raise TlkitError(f"data.root: two folders in {top} stand for one split: {some(entry.name for entry in named)}.")
    return splits


def _check_depth(top: Path, classes: tuple[str, ...]) -> None:
    """Refuse a root that holds nothing but the folder that was meant."""
    inner = top / classes[0]
    if len(classes) == 1 and inner.is_dir() and len(_folders(inner)) > 1:
        raise TlkitError(
            f"data.root: {top} holds a single class folder, {classes[0]!r}, with folders in it. "
            f"Did you mean data.root={inner}?"
        )


def _compiled(group: str | None) -> re.Pattern[str] | None:
    try:
        return None if group is None else re.compile(group)
    except re.error as error:
        raise UsageError(f"data.group={group}: not a regular expression: {error}.") from error


def _groups(pattern: re.Pattern[str], files: tuple[str, ...]) -> Strings:
    matches = [pattern.search(file) for file in files]
    names = [match and match[1 if pattern.groups else 0] for match in matches]
    if missing := [file for file, name in zip(files, names, strict=True) if not name]:
        raise TlkitError(f"data.group={pattern.pattern}: names no group for {len(missing)} files: {some(missing)}.")
    return np.array(names, dtype=np.str_)
