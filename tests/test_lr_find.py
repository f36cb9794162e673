"""The search for a learning rate, on scans."""

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tlkit.cli import main
from tlkit.training.search import REACH, Found

FAST = ["strategy=partial", "strategy.head_init=random", "strategy.augment=none", "trainer.accelerator=cpu"]


def test_a_rate_is_found_and_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "search"
    words = [*FAST, "strategy.layer_decay=0.5", "strategy.schedule=plateau", "seed=2"]
    assert main(["lr-find", *words, "steps=50", f"hydra.run.dir={run}"]) == 0
    out = capsys.readouterr().out
    assert {path.name for path in run.iterdir()} == {"config.yaml", "log.txt", "lr_find.csv", "lr_find.png"}
    table = pd.read_csv(run / "lr_find.csv")
    usual = np.sqrt(table["lr"][0] * table["lr"][0] * REACH**2)
    ratios = table["lr"][1:].to_numpy() / table["lr"][:-1].to_numpy()
    assert ratios == pytest.approx(REACH ** (2 / 49))
    assert usual == pytest.approx(0.1 * 5e-3 * 32 / 128)
    assert table["loss"].iloc[:5].mean() > 2 > table["smooth"].min()
    (line,) = (line for line in out.splitlines() if line.startswith("next:"))
    command = shlex.split(line.partition("tlkit ")[2])
    assert command[0] == "fit"
    assert {"data=digits", "backbone=tiny", *words} <= {*command}
    (rate,) = (float(word.partition("=")[2]) for word in command if word.startswith("strategy.lr="))
    assert 1e-4 < rate < 1e-1
    assert f"suggested: strategy.lr={rate:g}" in out
    assert main(["fit", f"resume={run}"]) == 2
    assert "steps: no such setting" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("losses", "edge"),
    [
        ([2.3] * 10 + [1.5] * 10 + [1.0] * 10 + [4.0] * 5, 29),  # it falls, then it rises
        ([0.01, 0.002, 0.01] * 10 + [5.0] * 5, 29),  # a probe has nothing to lose but at the end
    ],
)
def test_the_edge_is_where_the_loss_begins_to_rise(losses: list[float], edge: int) -> None:
    rates = [10 ** (step / 5) for step in range(len(losses))]
    found = Found(1.0, rates, losses, np.log(10))
    assert abs(rates.index(found.edge) - edge) <= 4
    assert found.suggested == pytest.approx(found.edge / 10, rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy=linear_probe"], "strategy=linear_probe has no rate to find. Take one of partial, full, scratch."),
        (["steps=3"], "steps=3: give 10 or more."),
        (["strategy.lrr=1"], "strategy.lrr: no such setting. Did you mean 'lr'?"),
        (["trainer.devices=2"], "trainer.devices=2: there are not as many processes."),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lr-find", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_rate_at_which_nothing_can_be_computed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr-find", *FAST, "strategy.lr=1e30", f"hydra.run.dir={tmp_path / 'run'}"]) == 1
    assert "Give a lower strategy.lr to search around" in capsys.readouterr().err
    assert not list(tmp_path.glob("run/*"))
