"""Pure functions from arrays to losses.

classification.py   softmax and sigmoid cross entropy with soft or smoothed labels
"""
