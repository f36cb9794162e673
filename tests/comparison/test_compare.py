"""Real runs side by side, and the same runs with their predictions changed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import tlkit
from tlkit import runs
from tlkit.backbones import count_macs, count_params
from tlkit.cli import main
from tlkit.comparison import Finished, compare, find_runs, finished, groups, pairs
from tlkit.comparison.finished import _cost
from tlkit.comparison.pairs import TIE
from tlkit.errors import TlkitError, UsageError

Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished probes of the same split."""
    folder = tmp_path_factory.mktemp("real")
    for head, own in (("ridge", {"alpha": 1.0}), ("prototype", {})):
        strategy = {"name": "linear_probe", "head": head, "scale": "none", **own}
        tlkit.fit(folder / f"0-head={head}", strategy=strategy, codes={"engine": "torch"})
    return folder


@pytest.fixture
def copied(real: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies a run and changes its predictions, or where its images came from."""

    def copy(name: str, change: Change = lambda table: table, head: str = "ridge", root: str | None = None) -> Path:
        run = tmp_path / name
        shutil.copytree(real / f"0-head={head}", run)
        table = pd.read_csv(run / "predictions.csv", dtype=str, keep_default_na=False)
        change(table).to_csv(run / "predictions.csv", index=False)
        if root is not None:
            data = json.loads((run / "data.json").read_text())
            (run / "data.json").write_text(json.dumps({**data, "source": {"root": root}}))
        return run

    return copy


def read(*paths: Path) -> list[Finished]:
    return finished(find_runs([str(path) for path in paths]))


def test_the_leaderboard_says_what_each_run_says(real: Path) -> None:
    table, _ = compare(runs=str(real))
    assert table["run"].tolist() == ["0-head=ridge", "0-head=prototype"]
    for row in table.to_dict("records"):
        metrics = json.loads((real / row["run"] / "metrics.json").read_text())
        assert [row[key] for key in ("n", "accuracy", "balanced_accuracy", "log_loss", "ece")] == [
            metrics[key] for key in ("n", "accuracy", "balanced_accuracy", "log_loss", "ece")
        ]
        assert [row["accuracy_low"], row["accuracy_high"]] == metrics["accuracy_interval"]
        assert row["seconds"] == pytest.approx(sum(metrics["training"]["seconds"].values()))
        assert row["forwards"] == metrics["passes"]["forwards"]
        assert (row["backbone"], row["strategy"], row["taps"]) == ("tiny", "linear_probe", "pool")
        assert (row["params"], row["macs"]) == (1_263_032, 45_228_032)


def test_the_pair_is_what_the_predictions_say(real: Path) -> None:
    _, table = compare(runs=[str(real)])
    (pair,) = table.to_dict("records")
    a, b = (pd.read_csv(real / f"0-head={head}" / "predictions.csv") for head in ("ridge", "prototype"))
    assert a["file"].tolist() == b["file"].tolist()
    right_a, right_b = a["label"] == a["predicted"], b["label"] == b["predicted"]
    only = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    assert (pair["shared"], pair["only_first"], pair["only_second"]) == (359, *only)
    assert pair["difference"] == pytest.approx(right_a.mean() - right_b.mean())
    assert pair["p"] == pair["p_holm"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert pair["verdict"] == ("0-head=ridge is better" if pair["p"] < 0.05 else TIE)
    assert pair["low"] < pair["difference"] < pair["high"]


def test_a_run_against_itself_ties_and_the_order_of_rows_does_not_matter(copied: Callable[..., Path]) -> None:
    shuffled = copied("shuffled", lambda table: table.sample(frac=1, random_state=0))
    other = copied("other", head="prototype")
    found = {(p.first, p.second): p for p in pairs(groups(read(copied("same"), shuffled, other)))}
    same = found["same", "shuffled"]
    assert (same.difference, same.low, same.high, same.p, same.p_holm, same.verdict) == (0, 0, 0, 1, 1, TIE)
    twice = found["same", "other"], found["shuffled", "other"]
    assert twice[0].p == twice[1].p
    assert twice[0].low == twice[1].low
    assert twice[0].p_holm == min(1, 3 * (twice[0].p or 0))  # the smallest of three


def test_runs_that_share_some_images_are_compared_on_those(copied: Callable[..., Path]) -> None:
    whole = copied("whole")
    part = copied("part", lambda table: table.iloc[:100], head="prototype")
    rest = copied("rest", lambda table: table.iloc[100:])
    found = {frozenset((p.first, p.second)): p for p in pairs(groups(read(whole, part, rest)))}
    assert found[frozenset(("whole", "part"))].shared == 100
    assert found[frozenset(("whole", "rest"))].shared == 259
    nothing = found[frozenset(("part", "rest"))]
    assert (nothing.shared, nothing.p, nothing.p_holm) == (0, None, None)
    assert nothing.verdict == "not compared: they held out no image in common"


def test_other_labels_for_the_same_file_are_told_and_not_compared(copied: Callable[..., Path]) -> None:
    def relabelled(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[[3, 5], "label"] = ["9", "8"]
        return table

    (pair,) = pairs(groups(read(copied("a"), copied("b", relabelled))))
    assert pair.verdict.startswith("not compared: other labels for the same file: digits/")
    assert pair.verdict.endswith(")")
    assert pair.p is None


def test_runs_with_other_classes_stand_apart(copied: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = copied("a"), copied("b", lambda table: table.rename(columns={"p(9)": "p(nine)"}))
    assert [[run.name for run in group] for group in groups(read(a, b))] == [["a"], ["b"]]
    compare(runs=[str(a), str(b)])
    out = capsys.readouterr().out
    assert out.count("runs with other classes or images stand in a table of their own") == 2
    assert out.count("there is no other run to compare it with") == 2


def test_names_of_classes_may_come_in_any_order(copied: Callable[..., Path]) -> None:
    turned = copied("b", lambda table: table[[*table.columns[:4], *table.columns[:3:-1]]])
    (pair,) = pairs(groups(read(copied("a"), turned)))
    assert (pair.shared, pair.difference) == (359, 0)


def test_files_of_the_same_name_elsewhere_are_other_images_unless_all_are_there(copied: Callable[..., Path]) -> None:
    here, copy = copied("here", root="/photos"), copied("copy", root="/copy/of/photos")
    other = copied("other", lambda table: table.iloc[:200], root="/drawings")
    parted = groups(read(here, copy, other))
    assert sorted(sorted(run.name for run in group) for group in parted) == [["copy", "here"], ["other"]]


def test_odd_classes_and_names_are_read_as_they_are(copied: Callable[..., Path]) -> None:
    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        table = table.replace({"label": {"1": "NA", "2": ""}, "predicted": {"1": "NA", "2": ""}})
        table["file"] = ["caf?.jpg", "caf?.jpg", *table["file"].iloc[2:]]
        return table.rename(columns={"p(1)": "p(NA)", "p(2)": "p()"})

    (run,) = read(copied("a", renamed))
    assert {"NA", ""} <= run.classes
    assert len(run.answers) == 357  # nobody knows which of two files of one name is which
    before = read(copied("b"))[0].answers["right"]
    assert run.answers["right"].tolist() == before.iloc[2:].tolist()


def test_runs_are_found_below_folders_once_and_evaluations_are_none(real: Path, copied: Callable[..., Path]) -> None:
    run = copied("a")
    evaluation = run / "evaluations" / "new"
    evaluation.mkdir(parents=True)
    for name in ("metrics.json", "predictions.csv"):
        shutil.copy(run / name, evaluation)
    shutil.copytree(real / "0-head=ridge", run / "training" / "mlflow" / "artifacts")
    (run.parent / "unfinished").mkdir()
    assert find_runs([str(run.parent), str(run), f"{run}/", str(real)]) == [
        run.resolve(),
        *(real.resolve() / f"0-head={head}" for head in ("prototype", "ridge")),
    ]
    with pytest.raises(TlkitError, match=r"no model and predictions\.csv in it, so it is no run"):
        find_runs([str(evaluation)])
    with pytest.raises(TlkitError, match="The run did not finish, or this is no run"):
        find_runs([str(run.parent / "unfinished")])
    with pytest.raises(TlkitError, match=r"no such folder\. Did you mean 'unfinished'"):
        find_runs([str(run.parent / "unfinishd")])
    with pytest.raises(UsageError, match="name runs or folders of runs"):
        compare(runs=[])


@pytest.mark.parametrize(("name", "text"), [("metrics.json", "{"), ("metrics.json", "[]"), ("predictions.csv", "x\n1")])
def test_a_damaged_run_is_named(name: str, text: str, copied: Callable[..., Path]) -> None:
    run = copied("a")
    (run / name).write_text(text)
    with pytest.raises(TlkitError, match=rf"a/{name}: .*Copy the run again"):
        read(run)
    (run / "metrics.json").write_text('{"accuracy": 1}')
    with pytest.raises(TlkitError, match="it lacks n, accuracy_interval"):
        read(run)
    for odd in ({"training": [1]}, {"accuracy": "x"}, {"accuracy_interval": [1]}):
        whole = copied(f"b{len(str(odd))}")
        metrics = {**json.loads((whole / "metrics.json").read_text()), **odd}
        (whole / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(TlkitError, match="not what a run writes"):
            read(whole)


def test_what_a_run_does_not_tell_is_left_open(
    copied: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        run = copied(name)
        (run / "model" / "classifier.json").unlink()
        metrics = json.loads((run / "metrics.json").read_text())
        (run / "metrics.json").write_text(json.dumps({**metrics, "training": {}, "passes": None}))
    table, _ = compare(runs=[str(tmp_path / "a"), str(tmp_path / "b")], out=str(tmp_path / "out"))
    assert table[["params", "macs", "seconds", "forwards"]].isna().all(axis=None)
    assert "?" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["leaderboard.png"]
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record["runs"][0]["macs"] is None


def test_operations_are_those_of_the_size_that_the_run_sees() -> None:
    from tlkit import registry

    tiny = registry.build("backbone", {"name": "tiny"})
    recorded = _cost('{"name": "tiny", "weights": "pretrained"}', (3, 64, 64))
    assert recorded == (count_params(tiny.module), count_macs(tiny.module, (3, 64, 64)))
    larger = _cost('{"name": "tiny", "weights": "pretrained"}', (3, 128, 128))
    assert larger[0] == recorded[0]
    assert 3.9 < (larger[1] or 0) / (recorded[1] or 1) < 4.1
    assert _cost('{"name": "timm", "model": "resnet18"}', (3, 224, 224)) == _cost('{"name": "resnet18"}', (3, 224, 224))
    for unknown in ('{"name": "gone"}', '{"name": "timm"}', '{"name": "tiny", "depth": 3}', '{"name": []}'):
        assert _cost(unknown, (3, 64, 64)) == (None, None)


def test_a_backbone_without_a_setting_for_weights_has_a_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    from tlkit import registry

    build = registry.get("backbone", "tiny")
    monkeypatch.setattr(registry, "get", lambda _, name: lambda *, size=64: build(weights=None))
    assert _cost('{"name": "like tiny", "weights": null}', (3, 64, 64)) == _cost('{"name": "tiny"}', (3, 64, 64))


def test_the_command_prints_and_writes_everything(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "it's [red]a|<b>\\"
    shutil.copytree(real, tmp_path / "sweep")
    shutil.copytree(real / "0-head=ridge", tmp_path / "sweep" / odd)
    monkeypatch.chdir(tmp_path / "sweep")
    words = ["0-head=ridge", odd, "0-head=prototype"]
    assert main(["compare", *words, "out=../compared"]) == 0
    out = capsys.readouterr().out
    assert odd in out
    assert TIE in out
    assert "highest accuracy: 1 (0-head=ridge)" in out
    assert {path.name for path in (tmp_path / "compared").iterdir()} == {
        *("leaderboard.csv", "pairs.csv", "comparison.json", "comparison.md", "config.yaml"),
        *("leaderboard.png", "accuracy_by_operations.png", "accuracy_by_time.png"),
    }
    board = pd.read_csv(tmp_path / "compared" / "leaderboard.csv")
    assert sorted(board["run"]) == sorted(words)
    assert len(pd.read_csv(tmp_path / "compared" / "pairs.csv")) == 3
    assert len(json.loads((tmp_path / "compared" / "comparison.json").read_text())["pairs"]) == 3
    report = (tmp_path / "compared" / "comparison.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {13, 10}
    assert "<b>" not in report
    assert runs.read_config(tmp_path / "compared")["runs"] == words
    assert main(["compare", "runs=['0-head=ridge','0-head=prototype']", "out=../compared"]) == 1
    assert "is there already and not empty" in capsys.readouterr().err


def test_wrong_words_are_one_message(
    real: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(real)
    assert main(["compare"]) == 2
    assert capsys.readouterr().err == "tlkit compare: give a value: runs=...\n"
    assert main(["compare", "0-head=ridge", "runs=x"]) == 2
    assert "named in two ways" in capsys.readouterr().err
    assert main(["compare", "0-head=ridg"]) == 1
    assert "run=0-head=ridg: no such folder. Did you mean '0-head=ridge'?" in capsys.readouterr().err
    assert main(["compare", "0-head=ridge", "ot=x"]) == 2
    assert "ot: no such setting. Did you mean 'out'?" in capsys.readouterr().err


def test_every_pair_of_many_runs_is_corrected(real: Path) -> None:
    (one, _) = read(real)
    random = np.random.default_rng(0)
    answers = [one.answers.assign(right=random.random(len(one.answers)) < 0.5 + 0.04 * n) for n in range(12)]
    found = pairs([[replace(one, name=f"run {n}", answers=table) for n, table in enumerate(answers)]])
    assert len(found) == 66
    assert TIE in {pair.verdict for pair in found}
    assert max(found, key=lambda pair: pair.second == "run 11").verdict == "run 11 is better"
    assert all(pair.p is not None and pair.p_holm is not None and pair.p_holm >= pair.p for pair in found)
