"""What may go wrong in the triplet store.

TripletsError
├── DomainNotFoundError
├── DomainsExhaustedError
├── EncoderUnavailableError
├── FieldInvalidError
├── LabelInUseError
├── LabelUnknownError
├── MatchNotFoundError
├── MemoryResolverMissingError
├── SchemaIncompatibleError
├── TemplateNotFoundError
├── TenantsTooFewError
├── TrainingFileInvalidError
├── UserChangedError
├── UserNotFoundError
└── ValidationFileInvalidError
"""


class TripletsError(Exception):
    """Base of all: a public message, and its changing parts by name."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


class DomainNotFoundError(TripletsError):
    """The tenant has no such domain."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"There is no domain {domain!r}. Declare its schema with PUT /v1/schema.", domain=domain
        )


class DomainsExhaustedError(TripletsError):
    """The tenant can have no further domain."""

    def __init__(self, domains_max: int) -> None:
        super().__init__(
            f"There are {domains_max} domains already, and no tenant may have more.",
            domains_max=str(domains_max),
        )


class EncoderUnavailableError(TripletsError):
    """The encoder cannot be reached."""

    def __init__(self) -> None:
        super().__init__("The encoder cannot be reached. Nothing was stored; try again.")


class FieldInvalidError(TripletsError):
    """A field breaks a rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}.", field=field, rule=rule)


class LabelInUseError(TripletsError):
    """Outcomes have used the label: it cannot be changed so."""

    def __init__(self, field: str, label: str, rule: str) -> None:
        super().__init__(f"{field}: {label!r} {rule}.", field=field, label=label, rule=rule)


class LabelUnknownError(TripletsError):
    """The outcome label is not known."""

    def __init__(self, field: str, label: str, labels: tuple[str, ...]) -> None:
        known = ", ".join(labels)
        label = label[:64]  # what is told travels in headers
        super().__init__(
            f"{field}: {label!r} is no outcome. Known: {known}.",
            field=field,
            label=label,
            labels=known,
        )


class MatchNotFoundError(TripletsError):
    """No match of the tenant is recorded under the id."""

    def __init__(self, match_id: str) -> None:
        super().__init__(
            f"match_id: no match {match_id!r} is recorded.", field="match_id", match_id=match_id
        )


class MemoryResolverMissingError(TripletsError):
    """No resolver is configured for memory references."""

    def __init__(self) -> None:
        super().__init__(
            "memory_ref: no memory resolver is configured. Send context, fields or vector.",
            field="memory_ref",
        )


class SchemaIncompatibleError(TripletsError):
    """The new schema cannot replace the old one."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}.", field=field, rule=rule)


class TemplateNotFoundError(TripletsError):
    """There is no such template of a schema."""

    def __init__(self, template: str, templates: tuple[str, ...]) -> None:
        known, template = ", ".join(templates), template[:64]
        super().__init__(
            f"There is no template {template!r}. There are {known}.",
            template=template,
            templates=known,
        )


class TenantsTooFewError(TripletsError):
    """Too few tenants share a domain for one to be learned from all of them."""

    def __init__(self, domain: str, tenants_min: int) -> None:
        super().__init__(
            f"Fewer than {tenants_min} tenants share a domain {domain!r} with triplets.",
            domain=domain,
            tenants_min=str(tenants_min),
        )


class TrainingFileInvalidError(TripletsError):
    """A training file cannot be used."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"The training file cannot be used: {problem}.")


class UserChangedError(TripletsError):
    """The person was changed while their vector was made."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"{user_id!r} is being changed by others, again and again. Nothing was stored.",
            user_id=user_id,
        )


class UserNotFoundError(TripletsError):
    """The domain has no such user."""

    def __init__(self, field: str, user_id: str) -> None:
        super().__init__(f"{field}: there is no user {user_id!r}.", field=field, user_id=user_id)


class ValidationFileInvalidError(TripletsError):
    """A validation file cannot be used."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"The validation file cannot be used: {problem}.")
