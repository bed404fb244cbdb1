from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    name = "tenants.datasets"
    label = "datasets"
    default_auto_field = "django.db.models.BigAutoField"
