"""Loads tenants beside a stack: `{tenants: {slug: [count, first]}, vectors: file}` → tenants (`_stack.beside`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from _search_load import groups, load

from standalone.stack import Stack


def main(stack: Stack, given: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {slug: (count, first) for slug, (count, first) in given["tenants"].items()}
    most = max(first + count for count, first in wanted.values())
    vectors = np.load(given["vectors"], mmap_mode="r")
    return [asdict(tenant) for tenant in load(stack, wanted, vectors, groups(most))]
