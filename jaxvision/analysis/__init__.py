"""What results mean.

statistics.py   means over seeds with intervals, differences paired by seed
plots.py        curves over the number of examples
"""
