from django.apps import AppConfig


class PeopleConfig(AppConfig):
    """What is done to a tenant's people, each act in its audit log. The rows are those of `accounts`."""

    name = "tenants.people"
    label = "people"
