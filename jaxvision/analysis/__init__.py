"""Analysis of results: statistics, scaling laws, figures and reports.

statistics.py     means over seeds with intervals, differences paired by seed, the noise of few seeds
scaling_laws.py   power laws of error over examples: fits, intervals, extrapolation, the choice of a form
crossing.py       the crossing of two arms, or the trend of their gap
criteria.py       the verdict on a criterion, which follows from intervals; how a report begins
plots.py          the style of all figures; curves over the number of examples, histograms
run_plots.py      the curves of runs, and their last values
confusion.py      what a classifier confuses: matrix, scores of classes, pairs
scaling_plots.py  the figures of a data-scaling study; sweep_plots.py: those of a sweep
gallery.py        the figures of a report: captions, and which figures are left out
words.py          results in words and tables, as reports write them
documents.py      a Markdown report as one HTML page
sheets.py         pages of pictures
embedding_plots.py  the figure of PCA and t-SNE
accounting.py     shapes, weights, multiply-adds and receptive fields of networks
collectives.py    what the devices of a compiled program send each other, in bytes
plan.py           memory, time of a step and what is sent on devices that are not here
traces.py         the time of each operation, from a trace of JAX's profiler
"""
