"""The operator's pages under /operator/: tenants, plans, the fleet, what went wrong."""
