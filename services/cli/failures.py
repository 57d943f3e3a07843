"""What ends a command of `penstock`: shown as one line, exit status 1."""


class StackFailure(Exception):
    """The stack, or one of its parts, cannot be started or reached. `str()` is one line for the person at the terminal."""


class ApiRefusal(Exception):
    """The REST API said no. `str()` is its own message; `code` its `error_code`, or empty where it was not the API that answered."""

    def __init__(self, message: str, code: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s
