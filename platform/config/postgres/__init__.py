"""Django's PostgreSQL backend, with connections that are not asked at every request whether they are still there."""
