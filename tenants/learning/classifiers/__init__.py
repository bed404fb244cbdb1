"""Classifiers of a tenant's own: yes-or-no questions about assets, answered by a linear head on stored vectors.

`services` defines, labels, trains and promotes them; `training` and `scoring` are their jobs, and scoring also writes
what a promoted version says of an asset that becomes ready; `suggestions` says what to label next.
"""
