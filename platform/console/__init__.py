"""The console: what a tenant's people see. Server-rendered pages on the same services as the API."""
