"""The kinds of background work: which queue, how many tries. The task of a kind is `workers.<kind>`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    name: str
    queue: str
    max_attempts: int = 3
    cancellable: bool = True
    # Dotted path of `f(job)`, called in the transaction that ends a job badly or queues it again: what the job works
    # on must show the same state. A path, as jobs stand below the modules that use them.
    follow: str = ""
    # Goes on where the job that queued it is cancelled: what is stored is audited, whoever stored it.
    outlives_parent: bool = False
    # Never archived: its row is read for as long as what it made is shown.
    kept: bool = False

    @property
    def task(self) -> str:
        return f"workers.{self.name}"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("embed_asset", queue="embed", follow="tenants.pipeline.assets.embedding.follow"),
        # Sound and film take minutes: a queue of their own keeps them from holding up pictures and texts.
        Kind("embed_media", queue="media", follow="tenants.pipeline.assets.embedding.follow"),
        Kind("import_assets", queue="import", follow="tenants.pipeline.transfer.imports.follow", kept=True),
        # As long as an import, and as patient.
        Kind(
            "embed_beside",
            queue="import",
            follow="tenants.pipeline.assets.backfill_embeddings.follow",
            kept=True,
        ),
        Kind("delete_dataset", queue="default", cancellable=False),
        Kind("merge_copies", queue="default"),
        Kind("erase_subject", queue="default", cancellable=False),
        Kind("export_tenant", queue="default", kept=True),
        Kind("reindex_metadata", queue="default"),
        Kind("build_index", queue="index"),
        Kind("move_index", queue="index"),
        Kind("project_map", queue="index", follow="tenants.retrieval.maps.job.follow"),
        Kind(
            "audit_item",
            queue="audit",
            follow="tenants.pipeline.audits.auditing.follow",
            outlives_parent=True,
        ),
        Kind("backtest_policy", queue="default", kept=True),
        Kind("match_again", queue="default"),
        Kind("train_gate", queue="train"),
        Kind("finetune", queue="train", follow="tenants.learning.finetuning.follow", kept=True),
        Kind("generate", queue="generate", follow="tenants.pipeline.generation.generating.follow", kept=True),
    )
}
# Dotted paths of `f(job)`, called in the transaction that ends a job, whatever its kind and however it ends.
ON_END: tuple[str, ...] = ("tenants.events.webhooks.job_ended",)
QUEUES = ("embed", "media", "import", "default", "index", "audit", "train", "generate", "hooks", "system")
