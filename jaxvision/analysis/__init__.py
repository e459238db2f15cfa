"""What results mean.

statistics.py   means over seeds with intervals, differences paired by seed
plots.py        curves over the number of examples, histograms
sheets.py       pages of pictures
accounting.py   shapes, weights, multiply-adds and receptive fields of networks
"""
