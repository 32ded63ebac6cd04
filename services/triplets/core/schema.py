"""What a domain knows about its people: fields, and how a schema may change."""

import dataclasses
import re
from dataclasses import dataclass

from services.triplets.core.errors import FieldInvalidError, SchemaIncompatibleError

KINDS = ("hard", "soft", "derived")
TYPES = ("integer", "number", "boolean", "string", "enum", "timestamp", "list", "geo")
FILTER_TYPES = ("list", "geo")
"""Heads cannot read them: they are there to filter by."""
PRIORITIES = ("high", "medium", "low")
CALLER = "caller"
"""Encoder name of a domain whose callers bring their own vectors."""

FIELDS_MAX = 256
MEMBERS_MAX = 1_000
MEMBER_CHARACTERS_MAX = 128
DESCRIPTION_CHARACTERS_MAX = 1_000
DIM_MAX = 4_096
_DOMAIN = re.compile(r"[a-z][a-z0-9_-]{0,47}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a person."""

    name: str
    kind: str
    type: str
    required: bool = False
    priority: str = "medium"
    members: tuple[str, ...] = ()
    description: str = ""
    member_descriptions: tuple[tuple[str, str], ...] = ()
    """Members and what they mean, for those that are described."""

    @property
    def is_column(self) -> bool:
        """Whether heads read the field as a number."""
        return self.kind != "soft" and self.type != "string" and self.type not in FILTER_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The fields of one domain and where its vectors come from."""

    domain: str
    number: int
    fields: tuple[Field, ...]
    encoder: str
    dim: int
    reciprocal: bool = False
    """Whether a match needs both people."""

    @property
    def version(self) -> str:
        """Domain and number, such as "dating.v3"."""
        return f"{self.domain}.v{self.number}"

    @property
    def columns(self) -> tuple[Field, ...]:
        """Fields that heads read, in their order."""
        return tuple(field for field in self.fields if field.is_column)


def check_schema(schema: Schema) -> None:
    """Refuses a schema that breaks a rule.

    Raises:
        FieldInvalidError: names the first rule broken.
    """
    if not _DOMAIN.fullmatch(schema.domain):
        rule = 'must be 1 to 48 characters of a-z, 0-9, "-" and "_", starting with a letter'
        raise FieldInvalidError("domain", rule)
    if len(schema.fields) > FIELDS_MAX:
        raise FieldInvalidError("fields", f"must be at most {FIELDS_MAX}")
    if not 1 <= schema.dim <= DIM_MAX:
        raise FieldInvalidError("embedding.dim", f"must be 1 to {DIM_MAX}")
    names: set[str] = set()
    for index, field in enumerate(schema.fields):
        _check_field(f"fields[{index}]", field)
        if field.name in names:
            raise FieldInvalidError(f"fields[{index}].name", f"{field.name!r} stands there twice")
        names.add(field.name)


def _check_field(path: str, field: Field) -> None:
    if not _NAME.fullmatch(field.name):
        rule = 'must be 1 to 64 characters of a-z, 0-9 and "_", starting with a letter'
        raise FieldInvalidError(f"{path}.name", rule)
    for attribute, value, allowed in (
        ("kind", field.kind, KINDS),
        ("type", field.type, TYPES),
        ("priority", field.priority, PRIORITIES),
    ):
        if value not in allowed:
            raise FieldInvalidError(f"{path}.{attribute}", f"must be one of {', '.join(allowed)}")
    if len(field.description) > DESCRIPTION_CHARACTERS_MAX or "\0" in field.description:
        rule = f"must have at most {DESCRIPTION_CHARACTERS_MAX} characters and no NUL"
        raise FieldInvalidError(f"{path}.description", rule)
    if field.kind == "soft" and field.type != "string":
        raise FieldInvalidError(f"{path}.type", "must be string for a soft field")
    if field.kind == "derived" and field.type in FILTER_TYPES:
        raise FieldInvalidError(f"{path}.type", f"is for hard fields: heads read no {field.type}")
    _check_members(path, field)


def _check_members(path: str, field: Field) -> None:
    if (field.type == "enum") != bool(field.members):
        raise FieldInvalidError(f"{path}.members", "must be given for an enum, and only for one")
    if len(field.members) > MEMBERS_MAX:
        raise FieldInvalidError(f"{path}.members", f"must be at most {MEMBERS_MAX}")
    if len(set(field.members)) != len(field.members):
        raise FieldInvalidError(f"{path}.members", "must differ from each other")
    lengths_fit = all(1 <= len(member) <= MEMBER_CHARACTERS_MAX for member in field.members)
    if not lengths_fit or any("\0" in member for member in field.members):
        rule = f"must have 1 to {MEMBER_CHARACTERS_MAX} characters each, and no NUL"
        raise FieldInvalidError(f"{path}.members", rule)
    for member, text in field.member_descriptions:
        if member not in field.members:
            raise FieldInvalidError(f"{path}.member_descriptions", f"{member!r} is no member")
        if len(text) > DESCRIPTION_CHARACTERS_MAX or "\0" in text:
            rule = f"must have at most {DESCRIPTION_CHARACTERS_MAX} characters each, and no NUL"
            raise FieldInvalidError(f"{path}.member_descriptions", rule)


def successor(old: Schema, new: Schema) -> Schema:
    """Returns what takes the place of `old`: itself when nothing changes, else `new`, numbered.

    Stored values and live heads stay valid: fields may be added unless required, enum members
    appended; nothing is removed, retyped or reordered.

    Raises:
        SchemaIncompatibleError: names the field and the rule.
    """
    if (old.encoder, old.dim) != (new.encoder, new.dim):
        raise SchemaIncompatibleError(
            "embedding", f"is {old.encoder} of {old.dim} dimensions and stays so"
        )
    if len(new.fields) < len(old.fields):
        missing = {field.name for field in old.fields} - {field.name for field in new.fields}
        raise SchemaIncompatibleError("fields", f"{', '.join(sorted(missing))} must stay")
    for index, before in enumerate(old.fields):
        _check_successor(f"fields[{index}]", before, new.fields[index])
    for index, added in enumerate(new.fields[len(old.fields) :], len(old.fields)):
        if added.required:
            raise SchemaIncompatibleError(
                f"fields[{index}].required", "must be false for a field that is added later"
            )
    if (new.fields, new.reciprocal) == (old.fields, old.reciprocal):
        return old
    return dataclasses.replace(new, number=old.number + 1)


def _check_successor(path: str, old: Field, new: Field) -> None:
    for attribute in ("name", "kind", "type"):
        before = getattr(old, attribute)
        if getattr(new, attribute) != before:
            raise SchemaIncompatibleError(f"{path}.{attribute}", f"is {before!r} and stays so")
    if new.members[: len(old.members)] != old.members:
        raise SchemaIncompatibleError(f"{path}.members", "may be added to at the end, no more")
    if new.required and not old.required:
        raise SchemaIncompatibleError(f"{path}.required", "was false and stays so")
