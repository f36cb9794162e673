"""The classification sets of torchvision.datasets, by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import PIL.Image

from tlkit.data.imagedata import ImageData, LazyImages, by_name
from tlkit.data.images import Image, UnreadableImage
from tlkit.errors import TlkitError, UsageError, did_you_mean

if TYPE_CHECKING:
    from torch.utils.data import ConcatDataset, Dataset

_Splits = Mapping[str, Mapping[str, Any]]
_WHOLE: _Splits = {"": {}}
_FLAG: _Splits = {"train": {"train": True}, "test": {"train": False}}
_TRAIN_TEST: _Splits = {"train": {"split": "train"}, "test": {"split": "test"}}
_TRAIN_VAL: _Splits = {"train": {"split": "train"}, "val": {"split": "val"}}
_THREE: _Splits = {**_TRAIN_VAL, "test": {"split": "test"}}

# Name: the arguments that select each split, and the files below the root that torchvision reads. PCAM is missing since
# its labels need h5py and a look at every image; Omniglot and LFW since their splits share no classes.
SETS: dict[str, tuple[_Splits, str]] = {
    "CIFAR10": (_FLAG, "cifar-10-batches-py/"),
    "CIFAR100": (_FLAG, "cifar-100-python/"),
    "CLEVRClassification": (_TRAIN_VAL, "clevr/CLEVR_v1.0/"),
    "Caltech101": (_WHOLE, "caltech101/101_ObjectCategories/"),
    "Caltech256": (_WHOLE, "caltech256/256_ObjectCategories/"),
    "Country211": ({**_TRAIN_TEST, "val": {"split": "valid"}}, "country211/{train,valid,test}/"),
    "DTD": (_THREE, "dtd/dtd/{images,labels}/"),
    "EMNIST": (
        {split: {"split": "balanced", **flag} for split, flag in _FLAG.items()},
        "EMNIST/raw/emnist-balanced-{train,test}-{images-idx3,labels-idx1}-ubyte",
    ),
    "EuroSAT": (_WHOLE, "eurosat/2750/"),
    "FER2013": (_TRAIN_TEST, "fer2013/fer2013.csv"),
    "FGVCAircraft": (_THREE, "fgvc-aircraft-2013b/data/"),
    "FashionMNIST": (_FLAG, "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "Flowers102": (_THREE, "flowers-102/jpg/, flowers-102/imagelabels.mat and flowers-102/setid.mat"),
    "Food101": (_TRAIN_TEST, "food-101/{images,meta}/"),
    "GTSRB": (_TRAIN_TEST, "gtsrb/GTSRB/{Training,Final_Test}/ and gtsrb/GT-final_test.csv"),
    "INaturalist": (
        {"train": {"version": "2021_train"}, "val": {"version": "2021_valid"}},
        "2021_train/ and 2021_valid/",
    ),
    "ImageNet": (_TRAIN_VAL, "ILSVRC2012_devkit_t12.tar.gz, train/ and val/"),
    "Imagenette": (_TRAIN_VAL, "imagenette2/{train,val}/"),
    "KMNIST": (_FLAG, "KMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "MNIST": (_FLAG, "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "OxfordIIITPet": (
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        "oxford-iiit-pet/{images,annotations}/",
    ),
    "Places365": (
        {"train": {"split": "train-standard", "small": True}, "val": {"split": "val", "small": True}},
        "categories_places365.txt, places365_{train_standard,val}.txt, data_256_standard/ and val_256/",
    ),
    "RenderedSST2": (_THREE, "rendered-sst2/{train,valid,test}/"),
    "SEMEION": (_WHOLE, "semeion.data"),
    "STL10": (_TRAIN_TEST, "stl10_binary/"),
    "SUN397": (_WHOLE, "SUN397/"),
    "SVHN": (_TRAIN_TEST, "train_32x32.mat and test_32x32.mat"),
    "StanfordCars": (_TRAIN_TEST, "stanford_cars/{cars_train,cars_test,devkit}/ and cars_test_annos_withlabels.mat"),
    "USPS": (_FLAG, "usps.bz2 and usps.t.bz2"),
}


def torchvision_set(*, dataset: str, root: str | None = None, download: bool = True) -> ImageData:
    """List one of torchvision's classification sets, with its own splits and class names.

    Files that are already there are used without a look at the network. (torchvision unpickles the CIFAR files, after
    checking their MD5 sums; that is the format of the set, and torchvision's decision.)

    Args:
        dataset: The class's name in torchvision.datasets, in upper or lower case.
        root: Where sets are kept; by default $TLKIT_DATA, else ~/.cache/tlkit/datasets.
        download: Fetch the set if it is not there.

    Raises:
        UsageError: torchvision has no such classification set.
        TlkitError: The set is not there and cannot be fetched; the message says which files to put where.
    """
    name = _known(dataset)
    top = _top(root or os.environ.get("TLKIT_DATA") or "~/.cache/tlkit/datasets")
    parts = {split: _open(name, top, chosen, download) for split, chosen in SETS[name][0].items()}
    found = {split: _targets(part) for split, part in parts.items()}
    targets = {split: labels for split, labels in found.items() if labels is not None}
    digits = len(str(max(label for labels in targets.values() for label in labels)))
    classes, labels = by_name(word for split in targets for word in _names(parts[split], targets[split], digits))
    images, files = _images({split: parts[split] for split in targets}, top)
    return ImageData(
        name=name,
        images=images,
        files=files,
        labels=labels,
        classes=classes,
        split=None if "" in targets else np.array([split for split, labels in targets.items() for _ in labels]),
        source={"dataset": name, "root": str(top)},
    )


def _top(root: str) -> Path:
    try:
        return Path(root).expanduser().absolute()
    except RuntimeError as error:  # no HOME, and a user that the system does not know
        raise TlkitError(f"data.root={root}: this user has no home folder; set data.root or TLKIT_DATA.") from error


def _known(dataset: str) -> str:
    lower = {name.casefold(): name for name in SETS}
    if name := lower.get(dataset.casefold()):
        return name
    close = did_you_mean(dataset.casefold(), lower)
    for key, proper in lower.items():
        close = close.replace(repr(key), repr(proper))
    raise UsageError(
        f"data.dataset={dataset}: no such classification set in torchvision.{close} Sets: {', '.join(SETS)}."
    )


class _Part(Protocol):
    """One split of a torchvision set: pairs of an image and its label."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int, /) -> tuple[Any, Any]: ...


def _open(name: str, top: Path, chosen: Mapping[str, Any], download: bool) -> _Part:
    """Construct one split, from the files that are there if possible."""
    import torchvision.datasets

    kind: Callable[..., _Part] = getattr(torchvision.datasets, name)
    settings = dict(chosen)
    if _accepts(kind, "loader"):
        settings["loader"] = Path  # images are listed by path, and decoded by tlkit
    can_download = _accepts(kind, "download")
    try:
        return kind(str(top), **settings, **({"download": False} if can_download else {}))
    except Exception as error:  # each set complains in a way of its own
        problem = error
    if can_download and download:
        try:
            return kind(str(top), **settings, download=True)
        except Exception as error:  # as above, and networks fail in many ways
            problem = error
    tried = " and cannot be downloaded" if can_download and download else ""
    raise TlkitError(
        f"{name} is not complete below {top}{tried} ({problem}). "
        f"Put there: {SETS[name][1]}; or name another folder with data.root or TLKIT_DATA."
    ) from problem


def _accepts(kind: Callable[..., _Part], setting: str) -> bool:
    makers = [vars(base).get("__init__") for base in inspect.getmro(cast("type", kind))]
    return any(setting in inspect.signature(maker).parameters for maker in makers if maker)


def _targets(part: _Part) -> list[int] | None:
    """Return the labels, without decoding an image where possible; None if they are kept back for a contest."""
    for column in ("targets", "labels", "_labels", "y"):
        if hasattr(part, column):
            return [int(label) for label in getattr(part, column)]
    labels = [label for _, label in _pairs(part) or [part[row] for row in range(len(part))]]
    return None if None in labels else [int(label) for label in labels]


def _pairs(part: _Part) -> Sequence[tuple[str | Path, int]] | None:
    """Return (path, label) of each image of a set that keeps its images in files, else None."""
    import torchvision.datasets

    if getattr(part, "loader", None) is Path:
        return [part[row] for row in range(len(part))]
    # These two take no loader, so their private lists are read.
    if isinstance(part, torchvision.datasets.OxfordIIITPet):
        return list(zip(part._images, part._labels, strict=True))
    if isinstance(part, torchvision.datasets.GTSRB):
        pairs: list[tuple[str, int]] = part._samples
        return pairs
    return None


def _names(part: _Part, labels: Sequence[int], digits: int) -> list[str]:
    """Return the class name of each label: the set's own, numbered where two classes share it, or else the number."""
    numbers = [f"{label:0{digits}d}" for label in range(max(labels, default=0) + 1)]
    own = next(
        (getattr(part, key) for key in ("classes", "categories", "all_categories") if hasattr(part, key)), numbers
    )
    names = [name if isinstance(name, str) else ", ".join(name) for name in own]
    if len(set(names)) < len(names):  # ImageNet has two kinds of cranes
        names = [f"{number:0{digits}d} {name}" for number, name in enumerate(names)]
    return [names[label] for label in labels]


def _images(parts: Mapping[str, _Part], top: Path) -> tuple[Sequence[Image], tuple[str, ...]]:
    """Return all images, still closed, and their names."""
    from torch.utils.data import ConcatDataset

    pairs = [_pairs(part) for part in parts.values()]
    paths = [Path(path) for part in pairs for path, _ in part or ()]
    if None not in pairs:
        return paths, tuple(path.as_posix().removeprefix(f"{top.as_posix()}/") for path in paths)
    files = tuple(f"{split}/{row:05d}".lstrip("/") for split, part in parts.items() for row in range(len(part)))
    together: ConcatDataset[Any] = ConcatDataset(cast("list[Dataset[Any]]", list(parts.values())))
    return LazyImages(partial(_picture, together), range(len(files))), files


def _picture(dataset: ConcatDataset[Any], row: int) -> Image:
    try:
        image: PIL.Image.Image = dataset[row][0]
        image.load()  # Caltech's are open files; this closes them
    except Exception as error:  # each set has its own way of failing
        raise UnreadableImage(f"torchvision cannot open it: {error}") from error
    return image
