from pathlib import Path

import pytest

from dragoman_server.errors import NotFound
from dragoman_server.repository import ModelVersion, Repository, default_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    for folder in (
        "b/1",
        "a/2",
        "a/10",
        "a/9",
        "a/0",
        "a/01",
        "a/-1",
        "a/latest",
        "a/1.5",
        "A/1",
        "-a/1",
        "a_b/1",
        ".x/1",
    ):
        (root / folder).mkdir(parents=True)
        (root / folder / "bundle.json").touch()
    (root / "a" / "11").mkdir()  # still being copied: no manifest yet
    (root / "c").touch()
    (tmp_path / "secret" / "1").mkdir(parents=True)
    (tmp_path / "secret" / "1" / "bundle.json").touch()
    return root


def test_lists_what_is_named_as_it_should_be_newest_first(root: Path) -> None:
    found = [(entry.name, entry.version) for entry in Repository(root).models()]
    assert found == [("a", 10), ("a", 9), ("a", 2), ("b", 1)]


def test_finds_the_newest_or_the_one_asked_for(root: Path) -> None:
    repository = Repository(root)
    assert repository.find("a") == ModelVersion("a", 10, root / "a" / "10")
    assert repository.find("a", 2).path == root / "a" / "2"


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *(("a", version) for version in (3, 0, -1)),
        *(
            (name, None)
            for name in ("c", "A", "", ".", "..", "a/10", "../secret", "/etc", "a\0", "b/../a", "a\n", ".x")
        ),
    ],
)
def test_nothing_else_is_found(root: Path, name: str, version: int | None) -> None:
    with pytest.raises(NotFound, match="no model"):
        Repository(root).find(name, version)


def test_a_long_name_is_shortened_in_the_error(root: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Repository(root).find("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_no_folder_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="the model repository is not there"):
        Repository(tmp_path / "missing").models()


def test_default_is_the_local_folder_else_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = default_root()
    assert packaged.parent.name == "dragoman_server"
    (tmp_path / "models").mkdir()
    assert default_root() == Path("models")
