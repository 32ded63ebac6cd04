"""A project's permission to use a checkpoint: a note. A tenant's keys may use it anyway."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.ids import new_id

PERMISSION_ID = "cp_"
PROJECTS_MAX = 100
"""Projects of one request."""
PERMISSIONS_MAX = 1_000
"""Of one checkpoint."""
PROJECT_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One permission."""

    tenant: str
    permission_id: str
    checkpoint: str
    """Name of the checkpoint's model."""
    project: str
    create_time: datetime.datetime


def permissions_for(
    tenant: str, checkpoint: str, projects: Sequence[str], now: datetime.datetime
) -> list[Permission]:
    """One permission for each project.

    Raises:
        FieldInvalidError: no project, too many, or one whose name cannot be shown.
    """
    fit = all(1 <= len(name) <= PROJECT_CHARACTERS_MAX and name.isprintable() for name in projects)
    if not 1 <= len(projects) <= PROJECTS_MAX or not fit:
        rule = f"1 to {PROJECTS_MAX} strings of 1 to {PROJECT_CHARACTERS_MAX} printable characters"
        raise FieldInvalidError("project_ids", rule)
    return [
        Permission(
            tenant=tenant,
            permission_id=new_id(PERMISSION_ID, now),
            checkpoint=checkpoint,
            project=project,
            create_time=now,
        )
        for project in dict.fromkeys(projects)
    ]
