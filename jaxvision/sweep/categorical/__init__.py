"""Searches over listed values that learn from earlier trials, each a file of its own.

They come from the search of architectures, but take any space whose domains are `choice` and `grid`, also under `when`.
"""
