import pkgutil
from importlib import import_module

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"

    def ready(self) -> None:
        from celery.signals import worker_ready, worker_shutdown

        from workers import heartbeat

        # Celery's autodiscovery is lazy; importing here makes every task known by name in every process.
        import_module("workers.tasks")
        declare_kinds()
        worker_ready.connect(heartbeat.on_ready, weak=False)
        # Not when the stop begins: what still runs needs its lease until the pool has come to its end.
        worker_shutdown.connect(heartbeat.on_stop, weak=False)


def declare_kinds() -> None:
    """Import every module of `tenants`, so that each kind of job is declared wherever its body stands, and make the
    Celery task of each."""
    import tenants
    from tenants.jobs import kinds, retired
    from workers.base import declare_task

    for found in pkgutil.walk_packages(tenants.__path__, "tenants."):
        if not {"migrations", "management"} & set(found.name.split(".")):
            import_module(found.name)
    retired.declare()
    for kind in kinds.KINDS.values():
        declare_task(kind)
