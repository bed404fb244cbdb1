"""Every benchmark at toy size in one process on a running stack: `BENCH=toy BENCH_STACK=… python _toy.py [NAME…]`.

Prints a line of JSON for each: its name, exit status, seconds, processor time here, and what it printed. The tenants
that they made are erased in the end: others use the stack as well, and rows of theirs have no files.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("[!_]*.py"))


def loaded(name: str) -> Any:
    """By its path: the product has a package `console`."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(name: str) -> dict[str, object]:
    said, start, cpu = io.StringIO(), time.monotonic(), time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = loaded(name).main()
        except SystemExit as end:
            status = end.code
        except Exception:
            traceback.print_exc()
            status = 1
    spent = {"seconds": time.monotonic() - start, "cpu_s": time.process_time() - cpu}
    return {"name": name, "status": status, **spent, "said": said.getvalue()}


@contextlib.contextmanager
def erased_after() -> Iterator[None]:
    """Whatever tenants come to be meanwhile are erased, as an operator would."""
    from tenants.accounts.models import Tenant
    from tenants.pipeline.care.tenant_erasure import erase_tenant
    from tenants.scope import operator_scope

    def slugs() -> set[str]:
        with operator_scope("erase what benchmarks made"):
            return set(Tenant.objects.values_list("slug", flat=True))

    before = slugs()
    try:
        yield
    finally:
        # At once: each waits for the memory of web processes to pass.
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda slug: erase_tenant(slug=slug), sorted(slugs() - before)))


def main(chosen: list[str]) -> None:
    sys.path.append(str(HERE))
    # First, as it reads where figures go, and a stack has a folder of its own.
    importlib.import_module("_report")
    from _stack import SHARED, start_django

    from standalone.stack import Stack

    start_django(Stack(Path(SHARED), [], {}))
    with erased_after():
        for name in chosen or names():
            print(json.dumps(run(name)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
