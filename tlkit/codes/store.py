"""The frozen pass: images in, codes of any number of taps out, and what was computed once is not computed again."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit import ranks
from tlkit.backbones.taps import Pooling
from tlkit.codes.cache import Cache, cache_at
from tlkit.codes.disk import DamagedBlock, Disk, Space
from tlkit.codes.engines import (
    EngineName,
    Precision,
    check_settings,
    engine_version,
    make_engine,
    processors,
    structure_digest,
)
from tlkit.codes.extraction import Codes
from tlkit.codes.halves import packed
from tlkit.codes.looking import Look, Prepared, Views, again, identity_of, in_processes, look, view_key
from tlkit.codes.rows import Rows
from tlkit.codes.stream import ahead, forward
from tlkit.data import Image
from tlkit.data.views import view_names
from tlkit.errors import TlkitError, UsageError
from tlkit.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from tlkit.backbones import Backbone

log = logging.getLogger(__name__)

FORMAT = 1
RECIPE = ("precision", "pooling", "views", "view_seed")  # settings that a classifier keeps, to predict as it learned
_BLOCK_ROWS, _BLOCK_SECONDS = 256, 5.0  # what a killed process loses at most
_AHEAD = 4  # batches that are decoded before the network asks for them
_FILES_AHEAD = 32  # for each thread
_MANY = 2000  # images, for which other processes are worth being started
_MOST_DAMAGED = 3  # times that damaged codes are computed again


class CodesStore:
    """Codes by network, tap, view and content of the image, in a folder that any number of processes share.

    An image that occurs twice passes through the network once, and an edited file is never answered with the codes of
    its old content.

    Args:
        cache: where codes are kept; the user's cache folder by default.
        engine: what runs the network: "openvino" (on CPUs), "torch", or "auto", the first of them that can.
        precision: of the arithmetic; codes are float32 always.
        pooling: how a map becomes a vector: "avg", "max", "avg+max" or "flatten".
        views: 1, or a number of fixed views of each image (the plain one and random resized crops), or "flip",
            "five_crop", "ten_crop".
        view_seed: of the random views.
        batch_size: images a forward pass; what suits the engine if None.
        device: a torch device, or "auto": a GPU if there is one.
        workers: threads that decode beside the network; as many as processors if None.

    Raises:
        UsageError: settings that make no sense, or not here.
    """

    def __init__(
        self,
        cache: Cache | None = None,
        *,
        engine: EngineName = "auto",
        precision: Precision = "float32",
        pooling: Pooling = "avg",
        views: int | str = 1,
        view_seed: int = 0,
        batch_size: int | None = None,
        device: str = "auto",
        workers: int | None = None,
    ) -> None:
        self._engine: dict[str, Any] = {"engine": engine, "precision": precision, "device": device}
        place = check_settings(**self._engine, pooling=pooling, batch_size=batch_size)
        self._decode_apart = place.startswith("cuda") and "fork" in multiprocessing.get_all_start_methods()
        if workers is not None and workers < 1:
            raise UsageError(f"codes.workers={workers}: give a positive number.")
        self.views = view_names(views, view_seed)
        self.recipe = dict(zip(RECIPE, (precision, pooling, views, view_seed), strict=True))
        self.pooling: Pooling = pooling
        self.batch_size = batch_size
        self.workers = workers or processors()
        self.cache = cache or cache_at()
        self.passes = {"forwards": 0, "decoded": 0}
        self._disk = self.cache.codes
        self._together, self._only_share = True, False
        self._halves: str | None = None
        self._prepared: Prepared | None = None
        self._keys: dict[Any, bytes] = {}  # content by file and time of change, or by source and row
        self._versions: dict[nn.Module, str] = {}

    @property
    def forwards(self) -> int:
        """How many views of images went through a network so far, on any rank."""
        return self.passes["forwards"]

    @property
    def decoded(self) -> int:
        """How many images were decoded so far, on any rank."""
        return self.passes["decoded"]

    def alone(self) -> CodesStore:
        """Return this store for one process that asks what the other ranks do not ask."""
        return self._changed(_together=False)

    def sharing(self) -> CodesStore:
        """Return this store for a rank that only does its share: `codes` raises ShareDone when that is done."""
        return self._changed(_only_share=True)

    def staying(self) -> CodesStore:
        """Return this store for a rank that has more to do than its share of one pass."""
        return self._changed(_only_share=False)

    def maps(self, views: Sequence[str]) -> CodesStore:
        """Return this store for whole outputs, flattened, of other views; `packed` if the precision is not float32."""
        halves = None if self.recipe["precision"] == "float32" else str(self.recipe["precision"])
        return self._changed(views=tuple(views), pooling="flatten", _versions={}, _halves=halves)

    def like(self, recipe: Mapping[str, Any]) -> CodesStore:
        """Return this store for codes that are made by another recipe."""
        precision, pooling, views, view_seed = (recipe[name] for name in RECIPE)
        return self._changed(
            recipe=dict(recipe),
            views=view_names(views, view_seed),
            pooling=pooling,
            _engine={**self._engine, "precision": precision},
            _versions={},
        )

    def _changed(self, **attributes: Any) -> CodesStore:  # noqa: ANN401
        other = copy.copy(self)
        vars(other).update(attributes)
        return other

    def codes(self, backbone: Backbone, images: Sequence[Image], taps: Sequence[str]) -> Codes:
        """Return the codes of n images at `taps`, computing what the store does not have.

        Where several ranks have joined, all of them have to call this with the same images: each computes its share.

        Raises:
            TlkitError: the codes cannot be kept, or the network cannot run.
        """
        started, forwards = time.perf_counter(), self.forwards
        spaces, seen = self._together_seen(backbone, images, taps)
        if self._only_share:
            raise ShareDone
        for _ in range(_MOST_DAMAGED):
            try:
                tables = {tap: self._rows(space, seen, len(images)) for tap, space in spaces.items()}
                break
            except DamagedBlock:  # they are dropped: now they are missing
                spaces, seen = self.alone()._together_seen(backbone, images, taps)
        else:
            raise TlkitError(f"{self._disk.folder}: what is written there does not come back. Check the disk.")
        seconds = time.perf_counter() - started
        summary = _summary(backbone, len(images), self.forwards - forwards, seconds, self._version(backbone))
        log.log(logging.INFO if self._together or self.forwards > forwards else logging.DEBUG, "%s", summary)
        return Codes(tables, dict(sorted(seen.errors.items())), len(self.views))

    def _spaces(self, backbone: Backbone, taps: Sequence[str]) -> dict[str, Space]:
        from tlkit.backbones import state_digest

        # Computed each time: nothing else tells whether somebody has changed a number or a setting of the network.
        digests = {"weights": state_digest(backbone.module), "structure": structure_digest(backbone)}
        return {
            tap: self._disk.space(
                {
                    "format": FORMAT,
                    "backbone": backbone.name,
                    **digests,
                    "preprocess": backbone.preprocess.to_dict(),
                    "pillow": version("Pillow"),
                    "tap": {**vars(backbone.tap(tap)), "tokens": list(backbone.tap(tap).tokens)},
                    "pooling": self.pooling if backbone.tap(tap).layout != "NC" else None,  # there is nothing to pool
                    "engine": self._version(backbone),
                    **({"halves": self._halves} if self._halves else {}),
                }
            )
            for tap in taps
        }

    def _version(self, backbone: Backbone) -> str:
        return self._versions.get(backbone.module) or engine_version(**self._engine)

    def _together_seen(
        self, backbone: Backbone, images: Sequence[Image], taps: Sequence[str]
    ) -> tuple[dict[str, Space], _Seen]:
        """Make one pass over the images, with the other ranks if there are any."""
        rank, size = ranks.world() if self._together else (0, 1)
        if size > 1 and self.cache.dir is None:
            raise UsageError("cache.max_gb=0: several processes share a pass through the cache: give it a size.")
        while True:
            spaces = self._spaces(backbone, taps)
            for space in spaces.values():
                space.find(())  # takes in what is on disk
            engine, before = self._version(backbone), dict(self.passes)
            seen = self._pass(backbone, images, range(rank, len(images), size), spaces)
            if size > 1:
                seen = self._gathered(backbone, seen, before)
            if engine == self._version(backbone):
                return spaces, seen

    def _gathered(self, backbone: Backbone, seen: _Seen, before: Mapping[str, int]) -> _Seen:
        """Put together what all ranks have seen; if one of them had to take another engine, all do."""
        own = {name: count - before[name] for name, count in self.passes.items()}
        self.passes.update(before)
        together = _Seen()
        for theirs, passes, engine in ranks.everyones((seen, own, self._versions.get(backbone.module))):
            together.keys.update(theirs.keys)
            together.errors.update(theirs.errors)
            for name, count in passes.items():
                self.passes[name] += count
            if engine is not None:
                self._versions[backbone.module] = engine
        return together

    def _pass(
        self, backbone: Backbone, images: Sequence[Image], share: Sequence[int], spaces: Mapping[str, Space]
    ) -> _Seen:
        seen, under_way = _Seen(), set[bytes]()

        def wanted(key: bytes) -> dict[bytes, str]:
            return {own: view for own, view in self._missing(key, spaces).items() if own not in under_way}

        def missing() -> Generator[tuple[bytes, NDArray[np.uint8]]]:
            with closing(self._looks(backbone, images, share, wanted)) as looks:
                for row, found in looks:
                    advance(1)
                    if found.error is not None:
                        seen.errors[row] = found.error
                        continue
                    seen.keys[row] = found.key
                    self.passes["decoded"] += found.decoded
                    for key, pixels in found.views.items():
                        if key not in under_way:  # the same image may come twice
                            under_way.add(key)
                            yield key, pixels

        with progress(f"codes of {backbone.name}", len(share)) as advance, closing(missing()) as items:
            self._compute(backbone, items, spaces, len(share))
        return seen

    def _missing(self, key: bytes, spaces: Mapping[str, Space]) -> dict[bytes, str]:
        """Return the views of an image of which some codes are not there yet."""
        keys = ((view_key(key, view), view) for view in self.views)
        return {own: view for own, view in keys if any(own not in space for space in spaces.values())}

    def _looks(
        self, backbone: Backbone, images: Sequence[Image], share: Sequence[int], wanted: Callable[[bytes], Views]
    ) -> Generator[tuple[int, Look]]:
        """Yield a look at each image of the share, in threads; those to be decoded beside a GPU in processes."""
        preprocess = backbone.preprocess

        def at(number: int, wanted: Callable[[bytes], Views] = wanted) -> Look:
            row = share[number]
            identity = identity_of(images, row)
            found = look(images, row, preprocess, wanted, self._keys.get(identity), self._prepared)
            if identity is not None and found.error is None:
                self._keys[identity] = found.key
            return found

        apart = self._decode_apart and len(share) >= _MANY
        images_ahead = max(_FILES_AHEAD * self.workers, _AHEAD * (self.batch_size or 1)) // len(self.views)
        most = max(images_ahead, self.workers + 1)
        todo: list[tuple[int, bytes, Views]] = []
        with closing(ahead(partial(at, wanted=_nothing) if apart else at, len(share), self.workers, most)) as looks:
            for row, found in zip(share, looks, strict=True):
                if apart and found.error is None and (views := wanted(found.key)):
                    todo.append((row, found.key, views))
                else:
                    yield row, found
        rows = [row for row, *_ in todo]
        if len(todo) >= _MANY:
            yield from zip(rows, in_processes(images, preprocess, todo, self.workers), strict=True)
        else:
            with closing(
                ahead(lambda number: again(images, preprocess, *todo[number]), len(todo), self.workers, most)
            ) as looks:
                yield from zip(rows, looks, strict=True)

    def _compute(
        self,
        backbone: Backbone,
        items: Iterator[tuple[bytes, NDArray[np.uint8]]],
        spaces: Mapping[str, Space],
        images: int,
    ) -> None:
        first = next(items, None)
        if first is None:
            return
        engine = make_engine(
            backbone,
            list(spaces),
            **self._engine,
            pooling=self.pooling,
            batch_size=self.batch_size,
            images=images,
            cache=self.cache.networks,
        )
        if engine.version != self._version(backbone):  # it could not be converted: codes of the other may be there
            self._versions[backbone.module] = engine.version
            return
        block = _Block(self._disk, spaces)
        try:
            for keys, codes in forward(engine, chain([first], items)):
                self.passes["forwards"] += len(keys)
                block.add(keys, {tap: packed(v, self._halves) for tap, v in codes.items()} if self._halves else codes)
        finally:
            block.write()

    def _rows(self, space: Space, seen: _Seen, n: int) -> Rows:
        """Return the rows of all images, views below each other; -1 where an image could not be read."""
        keys = [view_key(seen.keys[row], view) for row in sorted(seen.keys) for view in self.views]
        found = space.find(keys)
        if (found < 0).any():
            raise TlkitError(
                f"{int((found < 0).sum())} of {len(keys)} codes are not in {self._disk.folder}, where other processes "
                "should have put them. Give all of them the same folder on a shared disk: cache.dir=PATH."
            )
        space.check(found)
        rows = np.full((n, len(self.views)), -1, dtype=np.int64)
        rows[sorted(seen.keys)] = found.reshape(-1, len(self.views))
        return Rows([(space, rows.ravel())])


@dataclass
class _Seen:
    """What a pass has seen: the content of each readable image, and why the others are not."""

    keys: dict[int, bytes] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


class ShareDone(Exception):
    """A rank has done its share of a pass, and is asked for nothing else."""


class _Block:
    """Rows that are written together, and are safe from then on."""

    def __init__(self, disk: Disk, spaces: Mapping[str, Space]) -> None:
        self._disk = disk
        self._spaces = spaces
        self._begin()

    def _begin(self) -> None:
        self._keys: list[bytes] = []
        self._values: dict[str, list[NDArray[np.float32]]] = {tap: [] for tap in self._spaces}
        self._since = time.monotonic()

    def add(self, keys: Iterable[bytes], codes: Mapping[str, NDArray[np.float32]]) -> None:
        self._keys += keys
        for tap, values in codes.items():
            self._values[tap].append(values)
        if len(self._keys) >= _BLOCK_ROWS or time.monotonic() - self._since > _BLOCK_SECONDS:
            self.write()

    def write(self) -> None:
        if self._keys:
            joined = {self._spaces[tap]: np.concatenate(values) for tap, values in self._values.items()}
            self._disk.append(self._keys, joined)
        self._begin()


def _nothing(key: bytes) -> Views:
    return {}


def _summary(backbone: Backbone, images: int, forwards: int, seconds: float, engine: str) -> str:
    if not forwards:
        return f"codes of {images:,} images from the cache in {seconds:.1f} s"
    passes = f"{forwards:,} forward passes through {backbone.name}"
    return f"{images:,} images: {passes} in {seconds:.1f} s ({forwards / seconds:.0f}/s, {engine})"
