"""What each command of the command line does, callable from Python too.

train.py      train a config in a workdir
evaluate.py   evaluate a checkpoint again
inspect.py    build everything and show it, without training
verify.py     look whether a run is whole; verify_metrics.py: its metrics
predict.py    classify image files
visualize.py  a page of pictures of what a network learned; pictures.py: each of them
study.py      run the study of an experiment
"""
