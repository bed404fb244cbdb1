"""Erasing a whole dataset in the background, in small transactions."""

from __future__ import annotations

import time
import uuid

from tenants.jobs import services as jobs
from tenants.pipeline.services import erase_some
from tenants.scope import tenant_scope

BATCH = 100


def erase_dataset(claimed: jobs.Claim) -> None:
    """Erase the dataset of this job. A killed attempt is taken up where it stopped."""
    dataset_id, start = uuid.UUID(claimed.arguments["dataset"]), time.thread_time()
    left = None
    while left is None or left > 0:
        with tenant_scope(claimed.tenant_id):
            # Counted when the deletion was asked for: a dataset takes no more assets since.
            total = jobs.held(claimed).progress_total
            left = erase_some(dataset_id=dataset_id, count=BATCH)
        jobs.progress(claimed, renew=True, done=max(0, total - left), total=total)
    result = {"dataset": str(dataset_id)}
    jobs.succeed(claimed, result=result, cpu_s=time.thread_time() - start, gpu_s=0, used={})
