"""What is wrong with an installation, and what to do about it: `manage.py doctor`.

A check is a function that takes `Options` and returns one `Finding`. Each runs in a thread of its own with a time
limit, so that what hangs or raises is a finding too and never keeps the others from being told.
"""
