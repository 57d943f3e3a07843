"""What ends a command of `penstock`: shown as one line, exit status 1."""


class StackFailure(Exception):
    """The stack, or one of its parts, cannot be started or reached. `str()` is one line for the person at the terminal."""
