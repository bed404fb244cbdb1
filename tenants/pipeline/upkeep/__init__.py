"""What runs by the clock over all tenants, and what operators see of them and do."""
