from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "tenants.accounts"
    label = "accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listen for people who are deactivated, also in processes that look up no key."""
        from tenants.accounts import keys  # noqa: F401  # models are there only now
