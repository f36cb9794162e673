"""`tlkit ensemble` and `strategy=ensemble`, from the command line, on real scans."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import tlkit
from tlkit.cli import main
from tlkit.comparison import finished, groups
from tlkit.ensembles.ensemble import Ensemble


@pytest.fixture(scope="module")
def members(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name, tap in (("first", "layer1"), ("second", "layer2"), ("third", "pool")):
        tlkit.fit(
            folder / name, data={"name": "folder", "root": str(scans)}, strategy={"name": "linear_probe", "tap": tap}
        )
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_vote(members: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ensemble", f"runs={members}", "voting=weighted", "hydra.run.dir=out"]) == 0
    told = capsys.readouterr().out
    assert "first" in told
    assert "other votes of the same members: hard" in told
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert [row["name"] for row in metrics["members"]] == ["first", "second", "third", "ensemble"]
    assert metrics["passes"] == {"forwards": 0, "decoded": 0}
    assert metrics["n"] == 24
    assert sum(row["weight"] for row in metrics["members"][:3]) == pytest.approx(1)
    assert all(row["images_per_second"] > 0 for row in metrics["members"])
    # What the table says of a member is what the member's own run says.
    for row in metrics["members"][:3]:
        own = json.loads((members / row["name"] / "metrics.json").read_text())
        assert (row["accuracy"], row["log_loss"]) == pytest.approx((own["accuracy"], own["log_loss"]))
    made = tlkit.load("out")
    assert isinstance(made, Ensemble)
    predictions = pd.read_csv("out/predictions.csv")
    assert (predictions["predicted"] == predictions["label"]).mean() == pytest.approx(metrics["accuracy"])


def test_an_ensemble_is_a_run(members: Path, scans: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ensemble", f"runs=[{members / 'first'},{members / 'third'}]", "hydra.run.dir=out"]) == 0
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert main(["predict", "run=out", f"images={scans / 'digit 1'}"]) == 0
    predicted = pd.read_csv("predictions.csv")
    assert len(predicted) == 40
    assert (predicted["predicted"] == "digit 1").mean() > 0.9
    assert main(["evaluate", "run=out", "data=folder", f"data.root={scans}", "out=measured"]) == 0
    assert json.loads(Path("measured/metrics.json").read_text())["n"] == 120
    assert main(["ensemble", f"runs=[out,{members / 'second'}]", "voting=hard", "hydra.run.dir=again"]) == 0
    assert json.loads(Path("again/metrics.json").read_text())["n"] == metrics["n"]
    capsys.readouterr()
    assert main(["ensemble", f"runs=[{members / 'first'}]"]) == 2
    assert "1 finished run; an ensemble takes two at least" in capsys.readouterr().err
    assert main(["ensemble", f"runs=[out,{members / 'second'}]", "voting=greedy"]) == 0  # a soft vote's is unseen too
    assert main(["predict", "run=out", f"images={scans / 'digit 1'}", "codes.pooling=max"]) == 2
    assert "each member of an ensemble has its own" in capsys.readouterr().err


def test_runs_that_held_out_other_images(
    members: Path, scans: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"name": "folder", "root": str(scans)}
    tlkit.fit(here / "other", data=data, strategy={"name": "linear_probe"}, seed=2)
    assert main(["ensemble", f"runs=[{members / 'first'},other]", "hydra.run.dir=out"]) == 0
    assert 0 < json.loads(Path("out/metrics.json").read_text())["n"] < 24
    assert "images that all members held out" in capsys.readouterr().err + Path("out/log.txt").read_text()
    few = shutil.copytree(scans, here / "few")
    for path in sorted((few / "digit 0").iterdir())[:38]:
        path.rename(path.with_stem(f"x{path.stem}"))
    shutil.rmtree(few / "digit 2")
    tlkit.fit(here / "two", data={"name": "folder", "root": str(few)}, strategy={"name": "linear_probe"})
    assert main(["ensemble", f"runs=[{members / 'first'},two]"]) == 1
    assert "two does not know the classes digit 2, which others know" in capsys.readouterr().err


def test_images_of_one_name_from_several_places_are_told(
    members: Path, scans: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(members / "first"), str(members / "second")]
    one = tlkit.ensemble(runs, here / "one")
    data = [json.loads((path / "data.json").read_text()) for path in (one.path, members / "first")]
    assert [record["name"] for record in data] == ["folder", "folder"]
    assert data[0]["source"]["root"] == data[1]["source"]["root"]
    shutil.copytree(scans, here / "copy")
    tlkit.fit(here / "other", data={"name": "folder", "root": "copy"}, strategy={"name": "linear_probe"})
    capsys.readouterr()
    assert main(["ensemble", str(members / "first"), "other", "hydra.run.dir=two"]) == 0
    told = capsys.readouterr().err + Path("two/log.txt").read_text()
    assert "several places" in told
    assert str(here / "copy") in told
    assert not Path("two/data.json").exists()
    assert [len(group) for group in groups(finished([one.path, here / "two"]))] == [2]  # the same names and labels


def test_the_strategy(scans: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["strategy=ensemble", "data=folder", f"data.root={scans}", "cache.dir=cache", "hydra.run.dir=out"]
    assert main(["fit", *words]) == 2
    assert "one member cannot vote" in capsys.readouterr().err
    assert main(["fit", *words, "strategy.taps=[layer2,[layer3,pool]]", "strategy.heads=[svm,knn]"]) == 0
    told = capsys.readouterr().out
    metrics = json.loads(Path("out/metrics.json").read_text())
    names = ["layer2 svm", "layer2 knn", "layer3+pool svm", "layer3+pool knn", "ensemble"]
    assert [row["name"] for row in metrics["members"]] == names
    assert metrics["accuracy"] == metrics["members"][-1]["accuracy"]
    assert metrics["passes"] == {"forwards": 120, "decoded": 120}
    assert "ensemble of 4, soft vote" in told
    table = pd.read_csv("out/members.csv")
    assert table["name"].tolist() == names
    assert (
        main(["fit", *words[:4], "hydra.run.dir=random", "strategy.backbones=[{name: resnet18, weights: null}]"]) == 1
    )
    assert "resnet18 has random weights" in capsys.readouterr().err
    # Every name is looked at before the weights of any are loaded.
    assert (
        main(["fit", *words[:4], "hydra.run.dir=none", "strategy.backbones=[{name: tiny, weights: x},resnet19]"]) == 2
    )
    told = capsys.readouterr().err
    assert "strategy.backbones: " in told
    assert "resnet18" in told
