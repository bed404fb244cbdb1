from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"

    def ready(self) -> None:
        # Celery's autodiscovery is lazy; importing here makes every task known by name in every process.
        from workers import tasks  # noqa: F401
