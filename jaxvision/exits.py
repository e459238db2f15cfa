"""Exit statuses of the command line, for scripts and launchers."""

EXIT_FAILED = 1  # one line says why, and in which file the traceback lies
EXIT_USER_ERROR = 2  # something the user can mend; the message says what
EXIT_INCOMPLETE = 3  # done, but for some of the files that were named: they cannot be read
EXIT_PREEMPTED = 85  # the state is saved and the same command goes on; submit it again
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells count it: 128 and the number of SIGINT
