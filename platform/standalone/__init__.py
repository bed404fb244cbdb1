"""The one-command stack: embedded Postgres and Valkey, supervised processes, demo seeding."""
