"""report.html: all of it is there, names stay names, in a browser too, and nothing is fetched or run."""

import csv
import html
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

import tlkit
from tlkit.backbones import Backbone
from tlkit.cli import main
from tlkit.codes import CodesStore
from tlkit.data import ImageData, prepare
from tlkit.reports import maps
from tlkit.strategies import Resources
from tlkit.strategies.linear_probe import linear_probe
from tlkit.workflow import Run

CLASSES = [
    "<script>alert(1)</script>",
    "=cmd()",
    "\"quotes\" 'and' & <b>",
    "long " * 39 + "names",
    "\u202eשלום <i>",
    "🐜 $x^2$ {{ 7*7 }} {% x %}",
]
FILES = [
    "<img src=x onerror=document.title='run'>",
    "@SUM(A1)",
    "\"><svg onload=document.title='run'>",
    "l" * 200,
    "=1+1;=2",
    "\u202e🐝 a\nb\rc\td&amp;",
]
PROBE = {"name": "linear_probe", "head": "prototype"}
TAGS = frozenset(
    """html head meta link title style body header main nav section h1 h2 h3 p a b ul li dl div dt dd br code pre
    figure figcaption img span bdi table caption thead tbody tr th td""".split()  # noqa: SIM905
)


def _scans(n: int) -> list[list[Image.Image]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = [np.flatnonzero(digits.target == digit)[:n] for digit in range(len(CLASSES))]
    return [[Image.fromarray((digits.images[row] * 15).astype(np.uint8)) for row in each] for each in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on scans with hostile names, one of them unreadable, some with the label of another class."""
    root = tmp_path_factory.mktemp("hostile")
    lines = []
    for digit, (file, images) in enumerate(zip(FILES, _scans(15), strict=True)):
        for number, image in enumerate(images):
            path = root / f"{file}{number}.png"
            image.save(path)
            lines.append((path.name, CLASSES[(digit + (number % 4 == 0)) % len(CLASSES)]))
    (root / "<b onclick=x>.png").write_bytes(b"broken")
    lines.append(("<b onclick=x>.png", CLASSES[0]))
    with (root / "list.csv").open("w", newline="") as table:
        csv.writer(table, quoting=csv.QUOTE_ALL).writerows([("path", "label"), *lines])
    data = {"name": "manifest", "path": str(root / "list.csv")}
    return tlkit.fit(root / "run", data=data, strategy=PROBE)


class _Page(HTMLParser):
    """What a page is made of: tags, attributes, and the text of each element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def page(run: Run) -> _Page:
    return _Page(run.report.read_bytes().decode())


def _as_parsed(name: str) -> str:
    return name.replace("\r", "\n")


def test_no_name_becomes_a_tag_or_an_attribute(page: _Page) -> None:
    assert page.tags.keys() <= TAGS
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert all(re.fullmatch(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+", source) for source in page.values("src"))
    assert {target for target in page.values("href") if target != "data:,"} == {
        f"#{name}" for name in ("why", "data", "results", "classes", "pictures", "map", "cost", "again")
    }
    assert page.tags["img"] == len(page.values("src")) == len(page.values("alt"))


def test_every_name_is_there_as_it_is(page: _Page, run: Run) -> None:
    shown = {text for tag, text in page.texts if tag == "bdi"}
    assert shown >= set(CLASSES)
    table = run.predictions
    wrong = table[table["label"] != table["predicted"]]
    assert len(wrong) >= 2
    assert {_as_parsed(text) for text in shown} >= {_as_parsed(file) for file in wrong["file"]}
    assert "<b onclick=x>.png" in shown  # the unreadable one
    assert set(run.predictions["file"]) & set(page.values("alt"))


def test_the_page_lets_nothing_run_or_be_fetched(page: _Page) -> None:
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_all_parts_are_there(page: _Page, run: Run) -> None:
    headings = [text for tag, text in page.texts if tag == "h2"]
    assert len(headings) == 8
    pictures = {path.name for path in run.path.glob("*.png")}
    assert pictures == {"confusion_matrix.png", "pca.png", "reliability.png", "tsne.png"}
    text = " ".join(text for _, text in page.texts)
    assert f"{run.metrics['accuracy']:.3f}" in text
    assert "tlkit fit data=manifest" in text
    assert "90 images of 6 classes: 72 train, 18 test" in " ".join(text.split())
    assert len(run.report.read_bytes()) < 3_000_000


def test_csv_files_hold_no_formula(run: Run) -> None:
    for name in ("predictions.csv", "images.csv"):
        with (run.path / name).open(newline="") as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if re.match(r"[=+\-@\t\r\n]", cell)]
        assert any("=cmd()" in cell for cell in cells)


def test_such_a_run_is_measured_again(run: Run, tmp_path: Path) -> None:
    assert main(["evaluate", f"run={run.path}", f"out={tmp_path / 'again'}"]) == 0
    assert (tmp_path / "again" / "predictions.csv").read_bytes() == (run.path / "predictions.csv").read_bytes()
    again = _Page((tmp_path / "again" / "report.html").read_bytes().decode())
    assert again.tags.keys() <= TAGS
    assert {text for tag, text in again.texts if tag == "bdi"} >= set(CLASSES)


def test_ensembles_have_reports(run: Run, tmp_path: Path) -> None:
    data = {"name": "manifest", "path": str(run.path.parent / "list.csv")}
    other = tlkit.fit(tmp_path / "other", data=data, strategy={"name": "linear_probe", "C": 0.001})
    voted, judged = tmp_path / "voted", tmp_path / "judged"
    assert main(["ensemble", f"runs=[{run.path},{other.path}]", f"hydra.run.dir={voted}"]) == 0
    page = _Page((voted / "report.html").read_bytes().decode())
    assert page.tags.keys() <= TAGS
    assert "The ensemble beside its members" in " ".join(text for _, text in page.texts)
    assert {text for tag, text in page.texts if tag == "bdi"} >= set(CLASSES)
    assert main(["evaluate", f"run={voted}", "data=manifest", f"data.path={data['path']}", f"out={judged}"]) == 0
    assert _Page((judged / "report.html").read_bytes().decode()).tags["img"] > 20


def test_class_folders_with_such_names(tmp_path: Path) -> None:
    names = [name.replace("/", "") for name in CLASSES]
    for name, file, images in zip(names, FILES, _scans(10), strict=True):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(folder / f"{file}{number}.png")
    data = {"name": "folder", "root": str(tmp_path / "photos")}
    run = tlkit.fit(tmp_path / "run", data=data, strategy={"name": "linear_probe", "C": 0.001})
    page = _Page(run.report.read_bytes().decode())
    assert page.tags.keys() <= TAGS
    assert {text for tag, text in page.texts if tag == "bdi"} >= set(names)


def test_grad_cam_lies_over_what_the_network_sees(tiny: Backbone) -> None:
    from tlkit.visualize.overlays import overlays

    images = [image for each in _scans(12) for image in each]
    labels = np.repeat(np.arange(len(CLASSES)), 12)
    data = prepare(ImageData("scans", images, tuple(map(str, range(72))), labels, tuple("abcdef")), 1, test_size=0.2)
    heads: list[tuple[Literal["svm", "knn"], int]] = [("svm", 2), ("knn", 0)]
    for head, count in heads:
        classifier = linear_probe(tiny, data, Resources(CodesStore(), {}, 1), head=head)
        drawn = overlays(classifier, images, [3, 40], [0, 3])
        assert [picture.size for picture in drawn] == [(64, 64)] * count
        assert all(np.ptp(np.asarray(picture), axis=2).max() > 50 for picture in drawn)  # grey scans, coloured evidence


def test_images_that_are_gone_by_then_are_no_error(run: Run, tmp_path: Path) -> None:
    from tlkit.reports.thumbnails import thumbnails

    Image.new("CMYK", (3000, 2)).save(tmp_path / "wide.jpg", comment=b"secret")
    found = thumbnails([tmp_path / "gone.png", tmp_path / "wide.jpg", Image.new("LA", (1, 5000))])
    assert found[0] is None
    assert all(uri and uri.startswith("data:image/jpeg;base64,") for uri in found[1:])


def test_in_a_browser_nothing_runs_and_nothing_sticks_out(run: Run, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium here to open the page with")
    widths = (360, 800, 1400)
    source = html.escape(run.report.read_bytes().decode())
    frames = "".join(f'<iframe style="width:{w}px;height:900px" srcdoc="{source}"></iframe>' for w in widths)
    script = """onload = () => { document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(f => {
        const d = f.contentDocument, e = d.documentElement;
        return {title: d.title, width: e.scrollWidth, inner: e.clientWidth, scripts: d.scripts.length,
                broken: [...d.images].filter(i => !i.naturalWidth).length, images: d.images.length} })) }"""
    (tmp_path / "frames.html").write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><title></title><script>{script}</script>{frames}', encoding="utf-8"
    )
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    done = subprocess.run(
        [browser, *words, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path}/frames.html"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title
    found = json.loads(html.unescape(title[1]))
    assert len(found) == len(widths)
    for seen in found:
        assert seen["title"] == "manifest: tiny, linear_probe (prototype) on pool"
        assert seen["scripts"] == seen["broken"] == 0
        assert seen["images"] > 20
        assert seen["width"] <= seen["inner"]


@pytest.mark.parametrize("n", [1, 2, 10])
def test_a_few_images_are_laid_out_too(n: int) -> None:
    codes = np.random.default_rng(1).normal(size=(n, 4))
    assert {points.shape for _, points in maps([codes, codes], seed=0).values()} == {(n, 2)}
    assert {points.shape for _, points in maps([np.ones((n, 4))], seed=0).values()} == {(n, 2)}


def test_a_run_that_held_out_one_image(tmp_path: Path) -> None:
    for split, label, number in [("test", "a", 9), *(("train", label, n) for label in "ab" for n in range(4))]:
        path = tmp_path / "data" / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = 20 * number + (100 if label == "a" else 0)
        Image.new("RGB", (16, 16), (shade, shade, 255 - shade)).save(path)
    fitted = tlkit.fit(
        tmp_path / "run", data={"name": "folder", "root": str(tmp_path / "data")}, strategy="linear_probe"
    )
    assert fitted.metrics["n"] == 1
    assert fitted.report.is_file()
