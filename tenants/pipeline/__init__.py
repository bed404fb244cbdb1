"""An asset's way from upload to deletion: which of the packages below acts when.

`assets` takes in, prepares and embeds; `audits` examines and acts on what was decided; `generation` makes new ones;
`transfer` moves many in and out; `care` removes; `upkeep` is what runs by the clock and what operators see.
"""
