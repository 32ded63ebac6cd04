"""What putting a schema does to a domain, as it is told before or after it is done."""

from dataclasses import dataclass

from services.triplets.core.schema import Field, Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    """A step from one schema to its successor."""

    created: bool
    """Whether the domain comes into being."""
    previous_version: str
    """Empty for a domain that comes into being."""
    added_fields: tuple[str, ...]
    added_members: tuple[str, ...]
    """As "goal.friends"."""
    reworded_fields: tuple[str, ...]
    """Fields of which only priority, descriptions or a requirement that was lifted differ."""
    reciprocal_changed: bool
    applied: bool


def describe_change(old: Schema | None, new: Schema, *, applied: bool) -> SchemaChange:
    """Describes the step from `old`, if there was one, to its successor."""
    before = {} if old is None else {field.name: field for field in old.fields}
    kept = [field for field in new.fields if field.name in before]
    return SchemaChange(
        created=old is None,
        previous_version="" if old is None else old.version,
        added_fields=tuple(field.name for field in new.fields if field.name not in before),
        added_members=tuple(
            f"{field.name}.{member}"
            for field in kept
            for member in field.members[len(before[field.name].members) :]
        ),
        reworded_fields=tuple(
            field.name for field in kept if _words(field) != _words(before[field.name])
        ),
        reciprocal_changed=old is not None and old.reciprocal != new.reciprocal,
        applied=applied,
    )


def _words(field: Field) -> tuple[object, ...]:
    """Whatever is neither an addition nor fixed for ever; of members only those that have words."""
    return (field.priority, field.description, field.required, sorted(field.member_descriptions))
