"""Lists that the operator shares with every tenant, by the command."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tenants.moderation import known_content
from tenants.moderation.models import SharedHashEntry, SharedHashList
from tenants.scope import tenant_scope


@pytest.fixture
def name() -> Iterator[str]:
    name = f"shared {secrets.token_hex(6)}"
    yield name
    for row in SharedHashList.objects.filter(name=name):
        SharedHashEntry.objects.filter(hash_list=row).delete()
        row.delete()


def write(folder: Path, content: str) -> Path:
    path = folder / "hashes.csv"
    path.write_text(content)
    return path


def matches(party: Any, hashed: str) -> list[tuple[str, bool, str]]:
    with tenant_scope(party.id):
        found = known_content.match(fingerprints={"pdq": hashed, "pdq_quality": 90}, sha256="")
        return [(one["name"], one["shared"], one["stance"]) for one in found]


def test_a_file_is_imported_matches_for_all_and_is_replaced(
    party: Any, stranger: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    one, other = secrets.token_hex(32), secrets.token_hex(32)
    path = write(tmp_path, f"hash,note\n{one},first\n{one},again\n{other}\n")
    call_command("shared_hashes", "import", str(path), "--name", name)
    assert "2 added, 0 removed, of 3 in the file" in capsys.readouterr().out
    assert matches(party, one) == matches(stranger, one) == [(name, True, "bad")]
    call_command("shared_hashes", "import", str(write(tmp_path, other)), "--name", name, "--replace")
    assert "0 added, 1 removed" in capsys.readouterr().out
    assert (matches(party, one), matches(party, other)) == ([], [(name, True, "bad")])
    call_command("shared_hashes", "list")
    assert f"{name}  bad  1 hashes" in capsys.readouterr().out
    call_command("shared_hashes", "delete", name)
    assert matches(party, other) == []


def test_algorithms_stand_in_the_file_or_beside_it(name: str, tmp_path: Path) -> None:
    digits = secrets.token_hex(32)
    path = write(tmp_path, f"algorithm,hash\nsha256,{digits}\n,{digits}\n")
    call_command("shared_hashes", "import", str(path), "--name", name)
    call_command(
        "shared_hashes", "import", str(write(tmp_path, digits)), "--name", name, "--algorithm", "sha256"
    )
    assert sorted(
        SharedHashEntry.objects.filter(hash_list__name=name).values_list("algorithm", flat=True)
    ) == [
        "pdq",
        "sha256",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hash\n12\n", "Line 2: a hash has 64 hexadecimal"),
        ("hash,algorithm\n" + "0" * 64 + ",md5\n", "Line 2"),
        ("\xff".encode("latin-1"), "UTF-8"),
        (b"a," + b'"' + b"x" * 200_000, "64 hexadecimal"),
    ],
)
def test_a_file_that_cannot_be_read_changes_nothing(
    name: str, tmp_path: Path, content: str | bytes, said: str
) -> None:
    path = tmp_path / "hashes.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CommandError, match=said):
        call_command("shared_hashes", "import", str(path), "--name", name)
    assert not SharedHashList.objects.filter(name=name).exists()


def test_a_list_is_of_one_stance_and_must_be_there(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, secrets.token_hex(32))
    call_command("shared_hashes", "import", str(path), "--name", name)
    with pytest.raises(CommandError, match="bad content"):
        call_command("shared_hashes", "import", str(path), "--name", name, "--stance", "good")
    with pytest.raises(CommandError, match="Unknown shared list"):
        call_command("shared_hashes", "delete", f"{name} and more")
    with pytest.raises(CommandError, match="No such file"):
        call_command("shared_hashes", "import", str(tmp_path / "none"), "--name", name)
