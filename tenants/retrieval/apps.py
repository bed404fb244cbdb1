from django.apps import AppConfig


class RetrievalConfig(AppConfig):
    name = "tenants.retrieval"
    label = "retrieval"
    default_auto_field = "django.db.models.BigAutoField"
