"""A space of a tenant's own to switch to: the one that ships with its axes in another order.

Within either all scores are the same; a query of one against vectors of the other finds nothing that fits.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ml.alignment.space import SHIPPED
from ml.alignment.storage import write_space
from tenants.retrieval import model_routing


def turned_space(folder: Path, seed: int = 1) -> str:
    """Write the space into `folder`; the id of its model."""
    arrays = load_file(SHIPPED / "space.safetensors")
    order = np.random.default_rng(seed).permutation(arrays["axes"].shape[1])
    for name in ("axes", "hub_bank"):
        arrays[name] = arrays[name][:, order]
    arrays["text_from_classes"] = arrays["text_from_classes"][order]
    also = np.random.default_rng(seed).permutation(arrays["text_axes"].shape[1])
    for name in ("text_axes", "text_from_classes"):
        arrays[name] = arrays[name][:, also]
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    manifest |= {"id": f"cman-{uuid.uuid4()}", "version": "1"}
    write_space(folder, arrays, manifest)
    return f"{manifest['id']}:1"


def keep_turned(tenant_id: uuid.UUID, folder: Path, seed: int = 1) -> str:
    """Give the tenant such a model; its id."""
    made = folder / f"space-{uuid.uuid4().hex}"
    model = turned_space(made, seed)
    model_routing.keep_space(tenant_id=tenant_id, model=model, folder=made)
    return model
