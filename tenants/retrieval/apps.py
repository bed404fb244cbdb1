from importlib import import_module

from django.apps import AppConfig
from django.conf import settings


class RetrievalConfig(AppConfig):
    name = "tenants.retrieval"
    label = "retrieval"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # It listens to what those below it notice.
        import_module("tenants.retrieval.index.lifecycle")
        if settings.MILVUS_URL:
            import_module("tenants.retrieval.milvus").register()
