"""deploy/: what compose, the chart, the units and the image say agrees with the code, and with what checks them.

Checks that need a program or a package of no requirement file are skipped where it is absent, and say which.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.secret_files import SECRETS
from standalone.config import APP_PROCESSES, PRIVILEGED
from standalone.programs import OPERATOR_PROCESSES, WORKERS
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "crosslight"
SETTINGS = (ROOT / "platform" / "config" / "settings.py").read_text()
# Read elsewhere than in the settings: by boto3, and by the process itself.
OTHERS = {"AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE", "DATA_DIR", "DRAIN_S", "PYTHONUNBUFFERED"}


def is_known(name: str) -> bool:
    """Whether something reads a variable of this name."""
    secret = name.removesuffix("_FILE") in SECRETS
    return secret or name in OTHERS or bool(re.search(rf'(?:env|flag|env_list)\(\s*"{name}"', SETTINGS))


def test_unknown_names_would_be_found() -> None:
    assert is_known("BASE_URL")
    assert is_known("REDIS_URL_FILE")
    assert not is_known("BASE_URI")
    assert not is_known("STORAGE_URL_FILE")


# --- compose ---


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Services that run a process of the application, by its name."""
    commands = {name: service.get("command", []) for name, service in compose["services"].items()}
    return {
        command[1]: compose["services"][name]
        for name, command in commands.items()
        if command[:1] == ["process"]
    }


def test_compose_runs_every_process(compose: dict[str, Any]) -> None:
    assert sorted(ours(compose)) == sorted(APP_PROCESSES)
    assert compose["services"]["web"]["deploy"]["replicas"] == 3
    assert {"patroni-1", "patroni-2", "patroni-3", "etcd-1", "etcd-2", "etcd-3"} <= set(compose["services"])


def test_compose_gives_no_process_more_than_it_needs(compose: dict[str, Any]) -> None:
    for name, service in ours(compose).items():
        given = {secret.upper() for secret in service["secrets"]} & {
            key.lower().upper() for key in PRIVILEGED
        }
        assert given == ({"OPERATOR_DATABASE_URL"} if name in OPERATOR_PROCESSES else set()), name
        assert service["read_only"] is True
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        for variable, value in service["environment"].items():
            assert is_known(variable), variable
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], variable


def test_compose_names_only_secrets_that_are_made(compose: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "make-secrets", tmp_path)
    made = []
    for _ in range(2):
        subprocess.run([str(tmp_path / "make-secrets")], check=True)
        made.append({f"secrets/{file.name}": file.read_text() for file in (tmp_path / "secrets").iterdir()})
    files, again = made
    assert files == again
    assert {secret["file"] for secret in compose["secrets"].values()} <= set(files)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    used = {
        entry if isinstance(entry, str) else entry["source"]
        for service in compose["services"].values()
        for entry in service.get("secrets", [])
    }
    assert used == set(compose["secrets"])
    # Every URL is one that Django and Celery read.
    assert files["secrets/database_url"].startswith("postgres://crosslight_app:")
    assert files["secrets/broker_url"].startswith("amqp://")
    assert len(base64.b64decode(files["secrets/master_key"], validate=False)) == 32
    text = (DEPLOY / "compose.yaml").read_text()
    assert not [value for value in files.values() if value.strip() in text]


def test_compose_follows_its_specification(compose: dict[str, Any]) -> None:
    if (program := shutil.which("check-jsonschema")) is None:
        pytest.skip("check-jsonschema is missing: pip install check-jsonschema")
    command = [program, "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


# --- systemd ---

UNITS = sorted((DEPLOY / "systemd").rglob("*.service")) + sorted((DEPLOY / "systemd").rglob("*.conf"))


def test_units_name_known_settings() -> None:
    named = {
        name
        for unit in UNITS
        for line in unit.read_text().splitlines()
        if line.startswith("Environment=")
        for name in re.findall(r"(\w+)=", line.removeprefix("Environment="))
    }
    example = (DEPLOY / "systemd" / "environment.example").read_text()
    named |= set(re.findall(r"^([A-Z_0-9]+)=", example, re.MULTILINE))
    assert [name for name in sorted(named) if not is_known(name)] == []


def test_units_give_the_operators_role_to_whom_it_belongs() -> None:
    holders = {
        str(unit.relative_to(DEPLOY / "systemd"))
        for unit in UNITS
        if "OPERATOR_DATABASE_URL" in unit.read_text()
    }
    drop_in = "crosslight-worker@general.service.d/operator.conf"
    assert holders == {"crosslight-web.service", drop_in, "crosslight-migrate.service"}
    assert set(OPERATOR_PROCESSES) == {"web", "worker-general"}


def test_units_are_valid_and_confined(tmp_path: Path) -> None:
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    shutil.copytree(DEPLOY / "systemd", tmp_path, dirs_exist_ok=True)
    here = str(ROOT)
    for unit in tmp_path.glob("*.service"):
        text = unit.read_text().replace("/opt/crosslight/.venv/bin/python", shutil.which("true") or "")
        unit.write_text(text.replace("/opt/crosslight", here))
    names = [
        "crosslight-web.service",
        "crosslight-beat.service",
        "crosslight-migrate.service",
        "crosslight.target",
    ]
    names += [f"crosslight-{name.replace('-', '@', 1)}.service" for name in WORKERS]
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    run = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", *names],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    shutil.copy(tmp_path / "crosslight-worker@.service", tmp_path / "crosslight-worker@embed.service")
    for name in ("crosslight-web.service", "crosslight-worker@embed.service", "crosslight-beat.service"):
        run = subprocess.run(
            [program, "security", "--offline=yes", "--threshold=20", f"./{name}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-200:]


# --- the chart ---


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def test_the_chart_knows_every_worker_and_its_queues(values: dict[str, Any]) -> None:
    queues = {name: ",".join(worker["queues"]) for name, worker in values["workers"].items()}
    assert queues == WORKERS
    operators = {name for name, worker in values["workers"].items() if worker.get("operator")}
    assert operators | {"web"} == set(OPERATOR_PROCESSES)
    assert [name for name in values["settings"] if not is_known(name)] == []


def test_the_charts_values_follow_its_schema(values: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((CHART / "values.schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(values)
    for wrong in (
        {"settings": {**values["settings"], "STORAGE_URL": "file:///data"}},
        {"workers": {"worker-embed": {"replicas": 1}}},
        {"trustedProxys": "10.0.0.0/8"},
    ):
        assert list(validator.iter_errors({**values, **wrong})), wrong


VARIANTS = {
    "as it comes": {},
    "a Secret of before there were master keys": {"secret": {"masterKey": False}},
    "KEDA": {"autoscaling": {"enabled": True}},
    "TLS, models of a volume": {"haproxy": {"tlsSecret": "tls"}, "models": {"claim": "models"}},
    "no autoscaling, no policies": {
        "web": {"autoscaling": {"enabled": False}},
        "networkPolicy": {"enabled": False},
    },
    "GPU": {
        "workers": {
            "worker-embed": {
                "env": {"EMBED_THREADS": "1"},
                "nodeSelector": {"gpu": "yes"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "resources": {"limits": {"nvidia.com/gpu": 1}},
            }
        }
    },
}


def test_the_chart_has_no_finding(capfd: Any) -> None:
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk")
    found = helm.lint(str(CHART), strict=True)
    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_chart_renders_is_valid(variant: str, capfd: Any) -> None:
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk")
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    chart = helm.Chart.load(str(CHART))
    rendered = chart.render(VARIANTS[variant], name="shop", namespace="search")
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    objects = list(filter(None, itertools.chain(*map(yaml.safe_load_all, texts))))
    for found in objects:
        if found["kind"] != "ScaledObject":  # KEDA's own
            validate.validate(found, "1.34", strict=True)
    pods = {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]
        for found in objects
        if found["kind"] in ("Deployment", "Job")
    }
    assert {f"shop-{name}" for name in APP_PROCESSES} | {"shop-migrate", "shop-haproxy"} == set(pods)
    for name, pod in pods.items():
        (container,) = pod["containers"]
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] is True
        assert (confined["runAsNonRoot"], confined["capabilities"]) == (True, {"drop": ["ALL"]})
        given = {env["name"] for env in container["env"]}
        wide = name.removeprefix("shop-") in (*OPERATOR_PROCESSES, "migrate")
        assert ("OPERATOR_DATABASE_URL_FILE" in given) == wide
        assert ("MIGRATION_DATABASE_URL_FILE" in given) == (name == "shop-migrate")
        mounted = {
            item["path"] for volume in pod["volumes"] for item in volume.get("secret", {}).get("items", [])
        }
        assert ("operator_database_url" in mounted) == wide
        wraps = name != "shop-haproxy" and variant != "a Secret of before there were master keys"
        assert ("MASTER_KEY_FILE" in given, "master_key" in mounted) == (wraps, wraps)
        assert name == "shop-haproxy" or [v for v in given if not is_known(v)] == []
    kinds = [found["kind"] for found in objects]
    assert kinds.count("ScaledObject") == (5 if variant == "KEDA" else 0)
    assert ("NetworkPolicy" in kinds) == (variant != "no autoscaling, no policies")
    assert ("HorizontalPodAutoscaler" in kinds) == (variant != "no autoscaling, no policies")


# --- Patroni, and the image ---


def test_patroni_keeps_what_was_acknowledged() -> None:
    settings = yaml.safe_load((DEPLOY / "patroni" / "patroni.yml").read_text())
    dcs = settings["bootstrap"]["dcs"]
    assert dcs["synchronous_mode"] is True
    # Patroni's own rule for its loop, without which the primary may lose its lease while it retries.
    assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"]
    assert not re.search(r"password\s*:", (DEPLOY / "patroni" / "patroni.yml").read_text())


def test_the_image_is_what_the_processes_ask() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert re.findall(r"^(?:USER|VOLUME|EXPOSE) .*", text, re.MULTILINE) == [
        *("USER 10001:10001", "VOLUME /data", "EXPOSE 8000")
    ]
    given = re.search(r"^ENV (DATA_DIR=.*?)\n(?! )", text, re.MULTILINE | re.DOTALL)
    assert given
    named = set(re.findall(r"([A-Z_]+)=", given[1])) - {"HOME", "PATH", "PYTHONDONTWRITEBYTECODE"}
    assert [name for name in sorted(named) if not is_known(name)] == []
    # Everything that is copied is there, and nothing else goes into the image.
    kept = [line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")]
    assert [name for name in kept if not (ROOT / name).exists()] == []
