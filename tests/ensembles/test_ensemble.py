"""Ensembles of real classifiers: classes by name, one pass for each network, the same after a save, safe to load."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlkit.backbones import Backbone
from tlkit.classifier import Classifier, Unseen
from tlkit.codes import CodesStore, cache_at
from tlkit.data import ImageData, prepare
from tlkit.data.digits import digits
from tlkit.ensembles.ensemble import Ensemble, load_classifier, networks
from tlkit.ensembles.making import make_ensemble, together
from tlkit.ensembles.voting import VOTINGS, hard, soft
from tlkit.errors import TlkitError
from tlkit.heads import TrainedHead
from tlkit.strategies import Resources
from tlkit.strategies.linear_probe import linear_probe


@pytest.fixture(scope="module")
def images() -> ImageData:
    whole = digits()
    return prepare(whole.select(range(300)), seed=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CodesStore:
    return CodesStore(cache_at(dir=str(tmp_path_factory.mktemp("codes"))), batch_size=64)


@pytest.fixture(scope="module")
def members(images: ImageData, store: CodesStore) -> list[Classifier]:
    from tlkit import registry

    tiny: Backbone = registry.build("backbone", {"name": "tiny"})
    settings: list[dict[str, Any]] = [
        {"tap": "pool", "head": "ridge"},
        {"tap": "layer2", "head": "svm"},
        {"tap": ["layer1", "pool"], "head": "prototype"},
    ]
    return [linear_probe(tiny, images, Resources(store), **own) for own in settings]


NAMES = ["a", "b", "c"]


def permuted(classifier: Classifier, order: list[int]) -> Classifier:
    """The same classifier with its classes in another order."""
    head: Any = classifier.head
    coef = head.coef_[order] if hasattr(head, "coef_") else None
    assert coef is not None
    assert head.scale_ == "none"
    scores = np.zeros((0, len(order)), dtype=np.float32)
    other = TrainedHead.of(coef, head.intercept_[order], scores, np.zeros(0, dtype=np.int64))
    other.temperature_ = head.temperature_
    said = classifier.unseen
    assert said is not None
    place = np.argsort(order)
    unseen = Unseen(said.files, place[said.labels], said.probabilities[:, order])
    return replace(classifier, classes=tuple(classifier.classes[i] for i in order), head=other, unseen=unseen)


@pytest.mark.parametrize("voting", VOTINGS)
def test_it_votes_as_its_members_say(
    voting: Any,  # noqa: ANN401
    members: list[Classifier],
    images: ImageData,
    store: CodesStore,
    tmp_path: Path,
) -> None:
    made = make_ensemble(members, NAMES, voting, seed=1)
    test = images.select(images.rows("test"))
    each = np.stack([member.predict_proba(test.images, store) for member in members])
    said = made.predict_proba(test.images, store)
    if voting != "stacking":
        rule = hard if voting == "hard" else soft
        np.testing.assert_array_equal(said, rule(each, made.weights).astype(np.float32))
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-6)
    assert (said.argmax(axis=1) == test.labels).mean() > 0.9
    made.save(tmp_path)
    again = load_classifier(tmp_path)
    assert isinstance(again, Ensemble)
    assert (again.voting, again.weights, again.names) == (voting, made.weights, tuple(NAMES))
    np.testing.assert_array_equal(again.predict_proba(test.images, store), said)


def test_the_order_of_a_members_classes_does_not_matter(images: ImageData, store: CodesStore) -> None:
    from tlkit import registry

    tiny: Backbone = registry.build("backbone", {"name": "tiny"})
    straight = [
        linear_probe(tiny, images, Resources(store), tap=tap, head="softmax", scale="none")
        for tap in ("layer2", "pool")
    ]
    order = np.random.default_rng(0).permutation(10).tolist()
    mixed = [straight[0], permuted(straight[1], order)]
    test = images.select(images.rows("test"))
    for voting in ("soft", "hard", "weighted", "greedy"):
        expected = make_ensemble(straight, ["a", "b"], voting, 1)
        found = make_ensemble(mixed, ["a", "b"], voting, 1)
        np.testing.assert_allclose(
            found.predict_proba(test.images, store), expected.predict_proba(test.images, store), atol=1e-6
        )
        assert found.weights == pytest.approx(expected.weights) if expected.weights else found.weights is None


def test_members_on_one_network_share_a_pass(members: list[Classifier], images: ImageData, tmp_path: Path) -> None:
    fresh = CodesStore(cache_at(dir=str(tmp_path)))
    made = make_ensemble(members, NAMES, "soft", 1)
    assert [taps for _, taps in networks(made.members).values()] == [["pool", "layer2", "layer1"]]
    made.predict(images.images[:40], store=fresh)
    assert fresh.passes == {"forwards": 40, "decoded": 40}
    twice = make_ensemble([made, members[0]], ["ensemble", "a"], "soft", 1)  # an ensemble votes again
    twice.predict(images.images[:40], store=fresh)
    assert fresh.passes == {"forwards": 40, "decoded": 40}


def test_an_unreadable_image_is_nobodys(
    members: list[Classifier], images: ImageData, store: CodesStore, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    made = make_ensemble(members, NAMES, "soft", 1)
    table = made.predict([images.images[0], broken, images.images[1]], store=store)
    assert table["error"].notna().tolist() == [False, True, False]
    assert table["predicted"].notna().tolist() == [True, False, True]
    with pytest.raises(TlkitError, match=r"cannot read .*broken\.png"):
        made.predict_proba([broken], store=store)


def test_members_that_cannot_vote_together_are_named(members: list[Classifier]) -> None:
    strange = replace(members[1], classes=(*members[1].classes[:-1], "nine"))
    with pytest.raises(TlkitError, match="b does not know the classes 9, which others know"):
        make_ensemble([members[0], strange], ["a", "b"], "soft", 1)
    more = replace(members[1], classes=(*members[1].classes, "10"))
    with pytest.raises(TlkitError, match="b knows classes that others do not, 10"):
        make_ensemble([members[0], more], ["a", "b"], "soft", 1)
    with pytest.raises(TlkitError, match="takes two classifiers at least"):
        make_ensemble(members[:1], ["a"], "soft", 1)


def test_a_vote_learns_from_unseen_images_only(members: list[Classifier], images: ImageData) -> None:
    said = members[0].unseen
    assert said is not None
    assert set(said.files) == {images.files[row] for row in images.rows("train")}
    silent = replace(members[1], unseen=None)
    with pytest.raises(
        TlkitError, match=r"voting=greedy learns from images that no member has learned from, and b kept"
    ):
        make_ensemble([members[0], silent], ["a", "b"], "greedy", 1)
    elsewhere = replace(members[1], unseen=Unseen(("x",), np.zeros(1, dtype=np.int64), said.probabilities[:1]))
    with pytest.raises(TlkitError, match="there are 0 that all members judged so, not 10"):
        make_ensemble([members[0], elsewhere], ["a", "b"], "weighted", 1)
    assert make_ensemble([members[0], elsewhere], ["a", "b"], "soft", 1).unseen is None
    other = replace(said, labels=(said.labels + 1) % 10)
    with pytest.raises(TlkitError, match="the labels of 240 images differ between the members"):
        make_ensemble([members[0], replace(members[1], unseen=other)], ["a", "b"], "weighted", 1)


DAMAGES: list[tuple[str, Any]] = [
    ("format", 7),
    ("voting", "loud"),
    ("weights", [1.0]),
    ("weights", [1.0, -1.0, 0.0]),
    ("members", "abc"),
    ("members", ["../../x", "b", "c", "d"]),
    ("classes", ["0", "0"]),
    ("training", None),
]


@pytest.mark.parametrize(("key", "value"), DAMAGES)
def test_a_damaged_record_is_refused(key: str, value: Any, members: list[Classifier], tmp_path: Path) -> None:  # noqa: ANN401
    make_ensemble(members, NAMES, "weighted", 1).save(tmp_path)
    record = json.loads((tmp_path / "ensemble.json").read_text())
    (tmp_path / "ensemble.json").write_text(json.dumps({**record, key: value}))
    with pytest.raises(TlkitError, match=r"ensemble\.json is not a record|003"):
        load_classifier(tmp_path)


def test_images_of_one_name_are_left_out(members: list[Classifier]) -> None:
    classes, k = members[0].classes, len(members[0].classes)
    said = np.eye(k, dtype=np.float32)[[0, 1, 2, 3]]
    labels = np.arange(4)
    one = Unseen(("caf?.png", "b", "caf?.png", "c"), labels, said)
    other = Unseen(("c", "b", "caf?.png", "d"), np.array([3, 1, 2, 0]), said[[3, 1, 2, 0]])
    files, found, probabilities = together(classes, [(classes, one), (classes, other)])
    assert files == ("b", "c")
    assert found.tolist() == [1, 3]
    np.testing.assert_array_equal(probabilities, [said[[1, 3]]] * 2)
