from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"

    def ready(self) -> None:
        # Celery's autodiscovery is lazy; importing here makes every task known by name in every process.
        from celery.signals import worker_ready, worker_shutting_down

        from workers import pulse, tasks  # noqa: F401

        worker_ready.connect(pulse.on_ready, weak=False)
        worker_shutting_down.connect(pulse.on_stop, weak=False)
