from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"

    def ready(self) -> None:
        # Celery's autodiscovery is lazy; importing here makes every task known by name in every process.
        from celery.signals import worker_ready, worker_shutdown

        from workers import pulse, tasks  # noqa: F401

        worker_ready.connect(pulse.on_ready, weak=False)
        # Not when the stop begins: what still runs needs its lease until the pool has come to its end.
        worker_shutdown.connect(pulse.on_stop, weak=False)
