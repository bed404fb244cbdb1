"""Moderation: what a tenant's policies decide about content, and what people decide about that.

`rules` (what a policy says and decides; pure), in the language of `expressions`; `policies` (versions, what is in
force), `starters` (policies to begin with); `audits` (evidence); `known_content` (lists of hashes); `reviews` (flags,
appeals, strikes); `record` (the sealed record of decisions). The `__init__` of each holds what it does; `selectors` and
`serializers` read and shape.
"""
