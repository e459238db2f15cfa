"""Exit statuses of the command line, for scripts and launchers.

A signal ends `train`, `study` and `sweep` with EXIT_PREEMPTED: their state is saved, and the same command resumes them.
The other commands leave nothing half-done. A SIGTERM ends them with EXIT_PREEMPTED, too: it comes from a scheduler,
and the command has to run again. A SIGINT comes from a person, who wants them to end: EXIT_INTERRUPTED, as in a shell.
"""

EXIT_FAILED = 1  # an error that was not foreseen; one line says why, and names the file with the traceback
EXIT_USER_ERROR = 2  # an error that the user can fix; the message says how
EXIT_INCOMPLETE = 3  # finished, except for some of the named files, which cannot be read
EXIT_PREEMPTED = 85  # the state is saved; submit the same command again to resume
EXIT_HUNG = 86  # no progress for too long; the stacks are in a file, and the same command resumes from a checkpoint
EXIT_INTERRUPTED = 130  # a SIGINT ended a command that cannot resume, or a second SIGINT ended any
