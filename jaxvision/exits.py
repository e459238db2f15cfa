"""Exit statuses of the command line, for scripts and launchers.

A signal ends `train`, `study` and `sweep` with EXIT_PREEMPTED: what they have is safe, and the same command resumes
them.
The other commands keep nothing half-done. A SIGTERM ends them with EXIT_PREEMPTED too, because it is a scheduler's and
the command has to run again; a SIGINT is a person's, who wants them gone: EXIT_INTERRUPTED, as of a shell.
"""

EXIT_FAILED = 1  # one line says why, and in which file the traceback lies
EXIT_USER_ERROR = 2  # something the user can mend; the message says what
EXIT_INCOMPLETE = 3  # done, but for some of the files that were named: they cannot be read
EXIT_PREEMPTED = 85  # the state is saved; submit the same command again to resume
EXIT_HUNG = 86  # no progress for too long: the stacks are written down; the same command resumes from a checkpoint
EXIT_INTERRUPTED = 130  # ended by SIGINT where nothing goes on, or at once by a second SIGINT
