"""The folder of a rulebook is read whole or not at all: a table of what people and programs leave in folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.rulebook import folder as reading
from orchestrator.rulebook.folder import FolderFault, file_content, folder_files, folder_listing, printable
from orchestrator.rulebook.load import load_rulebook

PLAN = b"events:\n  signed_up: {}\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return written(tmp_path / "rules")


def written(folder: Path) -> Path:
    (folder / "pack").mkdir(parents=True)
    (folder / "tracking_plan.yaml").write_bytes(PLAN)
    (folder / "pack" / "a.yml").write_bytes(b"journey: a\n")
    return folder


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


#: What lies in the folder, and the one thing that is said of it; {} is the folder.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe, which nobody writes to": (
        lambda rules: os.mkfifo(rules / "x.yaml"),
        "{}/x.yaml: this is named like a file of rules, but is none; remove or rename it",
    ),
    "a socket": (
        lambda rules: bound(rules / "x.yml"),
        "{}/x.yml: this is named like a file of rules, but is none; remove or rename it",
    ),
    "a link to a device": (
        lambda rules: (rules / "x.yaml").symlink_to("/dev/zero"),
        "{}/x.yaml: this is named like a file of rules, but is none; remove or rename it",
    ),
    "a folder where a file was to be mounted": (
        lambda rules: (rules / "connectors.yaml").mkdir(),
        "{}/connectors.yaml: this is named like a file of rules, but is a folder; "
        "rename it, or put the file in its place",
    ),
    "a link to nothing": (
        lambda rules: (rules / "x.yaml").symlink_to("gone.yaml"),
        "{}/x.yaml: this link leads to nothing; mend or remove it",
    ),
    "a link to a folder that is gone": (
        lambda rules: (rules / "pack2").symlink_to("../gone"),
        "{}/pack2: this link leads to nothing; mend or remove it",
    ),
    "a link to itself": (
        lambda rules: (rules / "x.yaml").symlink_to("x.yaml"),
        "{}/x.yaml: this link leads back to where it stands; remove it",
    ),
    "a link to a folder above": (
        lambda rules: (rules / "pack" / "up").symlink_to(".."),
        "{}/pack/up: this link leads back to where it stands; remove it",
    ),
    "a file that cannot be read": (
        lambda rules: (rules / "x.yaml").symlink_to("/proc/self/mem"),
        "{}/x.yaml: this cannot be read (Input/output error); mend or remove it",
    ),
    "a name that is not UTF-8": (
        lambda rules: (rules / "x\udcff.yaml").write_bytes(b""),
        "{}/x\\udcff.yaml: the name is no plain UTF-8 text; rename it",
    ),
    "a file of rules in a folder whose name is not UTF-8": (
        lambda rules: (rules / "p\udcff").mkdir() or (rules / "p\udcff" / "x.yaml").write_bytes(b""),
        "{}/p\\udcff/x.yaml: the name is no plain UTF-8 text; rename it",
    ),
    "a name that would move the cursor": (
        lambda rules: (rules / "x\x1b[2J.yaml").write_bytes(b""),
        "{}/x\\x1b[2J.yaml: the name is no plain UTF-8 text; rename it",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), FAULTS.values(), ids=FAULTS)
def test_a_folder_that_cannot_be_read_whole_is_one_problem_that_names_the_place(
    rules: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(rules)
    with pytest.raises(FolderFault) as fault:
        folder_files(rules)
    assert str(fault.value) == said.format(rules)
    loaded = load_rulebook(rules)
    assert not loaded.ok
    assert [f"{one.file}: {one.message}" for one in loaded.problems] == [said.format(rules)]
    assert str(loaded.problems[0]).encode()


#: What is beside the rules and is none of them.
HARMLESS: dict[str, Callable[[Path], object]] = {
    "the lock of an editor": lambda rules: (rules / ".#tracking_plan.yaml").symlink_to("ann@host.17:1"),
    "a backup": lambda rules: (rules / "tracking_plan.yaml~").write_bytes(b"?"),
    "a swap file": lambda rules: (rules / ".a.yaml.swp").write_bytes(b"?"),
    "an editor's trial": lambda rules: (rules / "4913").write_bytes(b""),
    "a pipe of another name": lambda rules: os.mkfifo(rules / "x.pipe"),
    "a note whose name is not UTF-8": lambda rules: (rules / "n\udcff.txt").write_bytes(b""),
    "a hidden folder": lambda rules: (rules / ".git").mkdir() or (rules / ".git" / "x.yaml").write_bytes(b"?"),
}


@pytest.mark.parametrize("leave", HARMLESS.values(), ids=HARMLESS)
def test_what_editors_leave_beside_the_rules_is_not_looked_at(rules: Path, leave: Callable[[Path], object]) -> None:
    leave(rules)
    assert sorted(folder_files(rules)) == ["pack/a.yml", "tracking_plan.yaml"]


def test_links_are_followed_as_mounted_folders_are_made_of_them(rules: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    (mounted / "..2026_11_28").mkdir(parents=True)
    (rules / "tracking_plan.yaml").rename(mounted / "..2026_11_28" / "tracking_plan.yaml")
    (rules / "pack").rename(mounted / "..2026_11_28" / "pack")
    (mounted / "..data").symlink_to("..2026_11_28")
    for name in ("tracking_plan.yaml", "pack"):
        (mounted / name).symlink_to(f"..data/{name}")
    assert folder_files(mounted) == {"tracking_plan.yaml": PLAN, "pack/a.yml": b"journey: a\n"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "there is no such folder; name the one with your journeys"),
        ("rules/tracking_plan.yaml", "this is no folder; name the one with your journeys"),
        ("rules/tracking_plan.yaml/x", "there is no such folder; name the one with your journeys"),
        ("x" * 300, "this cannot be read (File name too long); mend or remove it"),
    ],
    ids=["nothing", "a file", "below a file", "too long"],
)
def test_what_is_no_folder_is_said_to_be_none(rules: Path, path: str, said: str) -> None:
    with pytest.raises(FolderFault) as fault:
        folder_files(rules.parent / path)
    assert fault.value.message == said


def test_a_subfolder_that_goes_while_it_is_read_is_looked_for_again(
    rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is renamed between the look at its parent and the look at itself, once."""
    scandir = os.scandir
    renamed: list[Path] = []

    def racing(path: Path) -> object:
        if path.name == "pack" and not renamed:
            renamed.append((rules / "pack").rename(rules / "pack2"))
        return scandir(path)

    monkeypatch.setattr(reading.os, "scandir", racing)
    assert sorted(folder_files(rules)) == ["pack2/a.yml", "tracking_plan.yaml"]


def test_files_are_read_as_of_one_moment(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes both files while the folder is read: the old one never stands beside the new."""
    read = reading.file_content
    written: list[str] = []

    def racing(path: Path) -> bytes:
        content = read(path)
        if not written:
            for name in ("pack/a.yml", "tracking_plan.yaml"):
                (rules / name).write_bytes(b"new: {}")
                written.append(name)
        return content

    monkeypatch.setattr(reading, "file_content", racing)
    assert set(folder_files(rules).values()) == {b"new: {}"}


def test_a_folder_that_never_stands_still_is_said_to_be_written_to(
    rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reading.file_content
    count = iter(range(1, 100))

    def racing(path: Path) -> bytes:
        (rules / "tracking_plan.yaml").write_bytes(b"#" * next(count))
        return read(path)

    monkeypatch.setattr(reading, "file_content", racing)
    with pytest.raises(FolderFault, match=r"the folder is being changed; try again when nothing writes to it$"):
        folder_files(rules)


def test_rights_that_change_are_seen_without_a_new_content(rules: Path) -> None:
    before = folder_listing(rules)
    assert folder_listing(rules) == before
    (rules / "pack" / "a.yml").chmod(0o600)
    assert folder_listing(rules) != before


def test_a_huge_file_is_read_no_further_than_shows_it(rules: Path) -> None:
    with (rules / "huge.yaml").open("wb") as file:
        file.truncate(1 << 40)
    assert len(file_content(rules / "huge.yaml")) == 2_000_001
    assert [
        str(one).split("\n")[1].strip() for one in load_rulebook(rules).problems if one.file.endswith("huge.yaml")
    ] == ["the file is larger than 2,000,000 bytes; split it"]


def test_too_many_files_are_the_wrong_folder(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FILES_MAX", 1)
    with pytest.raises(FolderFault, match="more than 1 files of rules; split the folder"):
        folder_files(rules)
    monkeypatch.setattr(reading, "ENTRIES_MAX", 1)
    with pytest.raises(FolderFault, match="more than 1 files; name the folder of journeys alone"):
        folder_files(rules)
    monkeypatch.undo()
    monkeypatch.setattr(reading, "FOLDER_BYTES_MAX", 10)
    with pytest.raises(FolderFault, match="more than 10 bytes; leave out what is no rule"):
        folder_files(rules)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter. pytest closes its own whenever it starts, here or beside this run."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


#: Lints twice, the second time as nobody, whose Python need not be readable any more by then.
LINT = """
import contextlib, os, sys
from orchestrator.cli import main
sys.argv = ["journey", "lint", sys.argv[1]]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):
    main()
if os.geteuid() == 0:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
print("as nobody", flush=True)
main()
"""


@pytest.mark.parametrize("name", ["pack", "tracking_plan.yaml"])
def test_what_this_user_may_not_read_is_named_with_the_remedy(open_folder: Path, name: str) -> None:
    """Permissions do not bite root, as whom tests may run: nobody lints the folder."""
    rules = written(open_folder / "rules")
    (rules / name).chmod(0)
    command = [sys.executable, "-c", LINT, str(rules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "500"})
    (rules / name).chmod(0o755)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.partition("as nobody\n")[2].splitlines()[:2] == [
        f"{rules / name}:1",
        "    this cannot be read (Permission denied); give this user the right to read it",
    ]


def test_paths_are_shown_as_text() -> None:
    assert printable("a\udcff\x1b[b\n.yaml") == "a\\udcff\\x1b[b\\n.yaml"
    assert printable("règles/नियम.yaml") == "règles/नियम.yaml"
