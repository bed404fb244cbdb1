from django.apps import AppConfig


class PeopleConfig(AppConfig):
    """What is done to a tenant's people, each act in its audit log. Rows are of `accounts`, a directory here."""

    name = "tenants.people"
    label = "people"
