"""Many assets at once, in and out: imports with their receipts, exports, tenants from exports, merged copies."""
