"""One training loop for every task.

state.py        what a run carries from step to step, and how it is born sharded
step.py         one update as a pure function; many of them in one dispatch
turns.py        the moves of a step: of one player, or of several in turn; players.py: which parameters are whose
accumulation.py the gradient of a batch from its parts: their mean, or exactly that of a loss over all pairs
feed.py         what the steps are fed: batches from a stream, or a set held in memory
loop.py         steps, logs, evaluations, checkpoints, in that order
journal.py      what a run remembers beside its state, so that its records do not depend on stops; exact.py: sums
goodput.py      where the time goes
checkpoint.py   who writes checkpoints; saved.py: who reads them; stored.py: how Orbax lays them out
entries.py      what lies in the folder of checkpoints; digests.py: whether it is what was written
metrics.py      where numbers go: metrics.jsonl and TensorBoard
finite.py       which steps may be taken: those whose numbers are finite; skips.py: what the host makes of the others
divergence.py   whether a run diverged, by the numbers that it left
progress.py     what a person sees while it runs
time_left.py    seconds up to the end of the run
throughput.py   examples per second, share of waiting for data, model FLOPs utilisation
watch.py        a signal to stop becomes a checkpoint
"""
