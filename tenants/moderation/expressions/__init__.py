"""Expressions of rules: a bounded subset of CEL, read here, printed anew, and evaluated by the engine.

Why read what the engine reads again: the engine bounds neither time nor memory, shows no syntax tree and knows no
types. What runs is the text that `printing` makes of our own tree, so that the engine can never see anything else than
what was checked.

The engine, `cel`, is imported where it is called: its package imports a command line and a terminal (.1 s), which no
process needs to start.
"""
