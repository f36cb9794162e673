"""`tlkit visualize` from words to pictures, on real data."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tlkit
from tlkit.cli import main
from tlkit.visualize.evidence import _others, ordered


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real scans of three digits as class folders, 20 files each, one damaged."""
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("scans")
    digits = load_digits()
    for digit in range(3):
        (root / f"digit ${digit}$").mkdir()
        for row in np.flatnonzero(digits.target == digit)[:20]:
            Image.fromarray((digits.images[row] * 15).astype(np.uint8)).save(root / f"digit ${digit}$" / f"{row}.png")
    (root / "digit $0$" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "it"
    strategy = {"name": "linear_probe", "tap": ["layer3", "pool"], "C": 1.0, "scale": "power"}
    return tlkit.fit(folder, data={"name": "folder", "root": str(scans)}, strategy=strategy).path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _pictures(folder: Path) -> list[str]:
    for path in folder.rglob("*.png"):
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 200
    return sorted(path.name for path in folder.rglob("*.png"))


def test_filters_in_three_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize", "backbone=tiny"]) == 0
    assert _pictures(here / "visualize" / "tiny") == ["filters.png"]
    out = capsys.readouterr().out
    assert "dead (norm below 10% of the median, BatchNorm's scale included): " in out
    assert "results: visualize/tiny/filters-" in out


def test_a_run_and_its_held_out_images(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize", f"run={run}", "most=7"]) == 0
    assert _pictures(run / "visualize") == ["gradcam-01.png", "gradcam-02.png"]
    test = (pd.read_csv(run / "images.csv")["split"] == "test").sum()
    assert f"of {test} predictions are wrong; 7 images are drawn, wrong ones first" in capsys.readouterr().out


def test_a_run_and_other_images(
    run: Path, scans: Path, here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["visualize", f"run={run}", f"images={scans / 'digit $0$'}", "most=2", "tap=layer2", "out=new"]) == 0
    assert _pictures(here / "new") == ["gradcam-01.png"]
    assert "left out, unreadable: 1: " in caplog.text + capsys.readouterr().err
    assert main(["visualize", f"run={run}", "data=folder", f"data.root={scans}", "split=all", "most=1", "out=all"]) == 0
    assert _pictures(here / "all") == ["gradcam-01.png"]


def test_projections_of_named_maps(scans: Path, here: Path) -> None:
    words = ["backbone=tiny", "data=folder", f"data.root={scans}", "tap=layer1", "maps=[3,17]"]
    assert main(["visualize", *words, "out=maps"]) == 0
    assert _pictures(here / "maps") == ["deconvnet-01.png"]
    table = pd.read_csv(here / "maps" / "deconvnet.csv")
    assert set(table["map"]) == {3, 17}
    assert table["rank"].tolist() == [*range(1, 10)] * 2
    for _, units in table.groupby("map"):
        assert (np.diff(units["activation"]) <= 1e-4).all()
    assert (table["bottom"] > table["top"]).all()
    assert table["file"].str.contains("digit").all()


def test_projections_are_of_the_units_that_the_table_names(scans: Path, here: Path) -> None:
    from tlkit import registry
    from tlkit.backbones import read_taps
    from tlkit.data import decode

    assert main(["visualize", "backbone=tiny", f"images={scans}", "tap=layer2", "maps=2", "out=maps"]) == 0
    table = pd.read_csv(here / "maps" / "deconvnet.csv")
    import torch

    tiny = registry.build("backbone", {"name": "tiny"})
    for unit in (table.iloc[0], table.iloc[-1]):
        pixels = torch.from_numpy(tiny.preprocess.pixels(decode(Path(unit["file"]))))[None]
        flat = read_taps(tiny, tiny.preprocess.normalise(pixels), ["layer2"], "flatten")["layer2"]
        maps = flat.reshape(tiny.tap("layer2").channels, -1)
        width = round(maps.shape[1] ** 0.5)
        found = maps[int(unit["map"])]
        assert found.max().item() == pytest.approx(unit["activation"], rel=1e-3)
        assert found.argmax().item() == unit["row"] * width + unit["column"]


def test_the_network_of_a_run(run: Path, here: Path) -> None:
    assert main(["visualize", f"run={run}", "what=deconvnet", "maps=1", "out=maps"]) == 0
    assert _pictures(here / "maps") == ["deconvnet-01.png"]
    assert main(["visualize", f"run={run}", "what=filters", "out=filters"]) == 0
    assert _pictures(here / "filters") == ["filters.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a finished run, run=RUN, or a network, backbone=NAME"),
        (["run=x", "backbone=tiny"], "and not both"),
        (["backbone=tiny", "tap=layer1"], "give images to look at: data=NAME, images=FOLDER or run=RUN"),
        (["backbone=tiny", "what=gradcam"], "it needs a classifier, run=RUN"),
        (["backbone=tiny", "what=filters", "tap=layer1"], "tap: what=filters draws weights"),
        (["backbone=tiny", "data=digits", "images=x"], "data and images: give one of them"),
        (["backbone=tiny", "weights=x"], "backbone.weights=PATH"),
        (["backbone=tiny", "data=digits", "tap=layer9"], "tiny has no tap 'layer9'. Did you mean"),
        (["backbone=tiny", "data=digits", "tap=layer1", "maps=[3,99]"], "layer1 has maps 0 to"),
        (["backbone=tiny", "data=digits", "maps=0"], "maps=0: how many?"),
        (["backbone=tiny", "data=digits", "codes.views=flip"], "codes.views: what=deconvnet"),
        (["backbone=tiny", "most=0"], "most=0: give a positive number"),
        (["what=filter"], "what: expected 'filters' or 'deconvnet' or 'gradcam'"),
        (["backbone=tiny", "what=deconvnet", "images=x", "split=test"], "split: images"),
    ],
)
def test_words_that_make_no_sense(
    words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["visualize", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_a_vote_of_neighbours_has_no_evidence(scans: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strategy = {"name": "linear_probe", "head": "knn", "k": 3, "scale": "none"}
    tlkit.fit(here / "knn", data={"name": "folder", "root": str(scans)}, strategy=strategy)
    assert main(["visualize", "run=knn"]) == 2
    assert "strategy.head=svm costs no pass" in capsys.readouterr().err
    assert not (here / "knn" / "visualize").exists()


def test_an_ensemble_has_no_network_of_its_own(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tlkit.ensemble([run, shutil.copytree(run, here / "copy")], here / "vote")
    assert main(["visualize", "run=vote"]) == 2
    assert "run=vote is an ensemble" in capsys.readouterr().err
    assert not (here / "vote" / "visualize").exists()


def test_wrong_predictions_come_first() -> None:
    table = pd.DataFrame({"predicted": ["a", "b", "a", None, "b"], "probability": [0.9, 0.6, 0.7, np.nan, 0.8]})
    assert ordered(table, ["a", "a", "a", "a", "a"]) == [4, 1, 2, 0]
    assert ordered(table, None) == [1, 2, 4, 0]


def test_what_the_second_map_is_of() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]])
    assert _others(probabilities, [0, 0]).tolist() == [1, 0]
    assert _others(probabilities, None).tolist() == [1, 2]
