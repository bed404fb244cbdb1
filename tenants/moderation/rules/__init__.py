"""What a policy says and decides: pure, without Django, so that it can be checked and replayed anywhere."""
