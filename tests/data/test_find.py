"""What `images=` may mean."""

from pathlib import Path

import pytest
from PIL import Image

from tlkit.data import find_images
from tlkit.errors import TlkitError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a.png", "sub/c.jpg", ".hidden/d.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _names(found: list[Path]) -> list[str]:
    return [path.as_posix() for path in found]


@pytest.mark.usefixtures("photos")
def test_folder_file_glob_and_lists() -> None:
    everything = ["photos/a.png", "photos/b.jpg", "photos/sub/c.jpg"]
    assert _names(find_images("photos")) == everything
    assert _names(find_images("photos/a.png")) == ["photos/a.png"]
    assert _names(find_images("photos/*.jpg")) == ["photos/b.jpg"]
    assert _names(find_images("photos/**/*.jpg")) == ["photos/b.jpg", "photos/sub/c.jpg"]
    assert _names(find_images(["photos/b.jpg", "photos/sub", "gone.jpg"])) == [
        "photos/b.jpg",
        "photos/sub/c.jpg",
        "gone.jpg",
    ]
    Path("list.txt").write_text("photos/b.jpg\n\nphotos/a.png\n")
    assert _names(find_images("list.txt")) == ["photos/b.jpg", "photos/a.png"]


def test_signs_of_a_pattern_in_a_real_name_are_a_name(photos: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "x[1].jpg")
    assert _names(find_images("x[1].jpg")) == ["x[1].jpg"]
    assert _names(find_images(["x[1].jpg"])) == ["x[1].jpg"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("photo", "no such folder, file or pattern. Did you mean 'photos'"),
        ("photos/*.gif", "no such folder, file or pattern"),
        ([], "name at least one image"),
    ],
)
def test_nothing_found_is_explained(images: str | list[str], message: str) -> None:
    with pytest.raises(TlkitError) as caught:
        find_images(images)
    assert message in str(caught.value)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(TlkitError, match="no images in this folder"):
        find_images(tmp_path)
