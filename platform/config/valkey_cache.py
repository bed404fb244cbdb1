"""Django's cache over the process's one client of Valkey, wherever that is (`tenants.valkey`)."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient

from tenants.valkey import client


class _Client(RedisCacheClient):
    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        return client()

    # Several keys may lie on several servers.
    def get_many(self, keys: Any) -> dict[Any, Any]:
        absent = object()
        found = ((key, self.get(key, absent)) for key in keys)
        return {key: value for key, value in found if value is not absent}

    def set_many(self, data: Any, timeout: Any) -> None:
        for key, value in data.items():
            self.set(key, value, timeout)


class ValkeyCache(RedisCache):
    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = _Client
