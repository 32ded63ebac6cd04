"""What may go wrong in serving.

ServingError
├── DomainNotFoundError
├── FieldInvalidError
├── FilterInvalidError
├── HeadRefusedError (inside only: a head that must not be loaded)
├── JudgeFailedError (inside only: the order so far stands)
├── ModelNotFoundError
├── ModelUnavailableError
├── NotReadyError
├── PageTokenStaleError
└── UserNotFoundError
"""


class ServingError(Exception):
    """Base of all: a public message, and its changing parts by name."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


class DomainNotFoundError(ServingError):
    """The tenant has no such domain."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"There is no domain {domain!r}. Declare its schema with PUT /v1/schema.", domain=domain
        )


class FieldInvalidError(ServingError):
    """A field breaks a rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}.", field=field, rule=rule)


class FilterInvalidError(ServingError):
    """A filter breaks a rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}.", field=field, rule=rule)


class HeadRefusedError(ServingError):
    """A head's artifacts are not what they should be; the head in use stays."""


class JudgeFailedError(ServingError):
    """The judge gave no verdict; the text says why."""


class ModelNotFoundError(ServingError):
    """The tenant has no such model."""

    def __init__(self, model: str) -> None:
        super().__init__(f"There is no model {model!r}.", model=model)


class ModelUnavailableError(ServingError):
    """A model cannot be loaded, or nobody can say what its name stands for."""

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model!r} cannot be loaded now. Try again.", model=model)


class NotReadyError(ServingError):
    """Candidates are still being loaded."""

    def __init__(self) -> None:
        super().__init__("Candidates are still being loaded. Try again.")


class PageTokenStaleError(ServingError):
    """The head that ranked the page before is no longer in use."""

    def __init__(self) -> None:
        super().__init__(
            "page_token: another head ranks by now. Ask for the first page again.",
            field="page_token",
        )


class UserNotFoundError(ServingError):
    """The domain has no such user."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"user_id: there is no user {user_id!r}.", field="user_id", user_id=user_id
        )
