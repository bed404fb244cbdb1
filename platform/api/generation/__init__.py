"""What was generated."""
