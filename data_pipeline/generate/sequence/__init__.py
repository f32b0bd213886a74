"""Generators of token sequences: the tasks that are made by rules, and stand-ins for those that are not."""
