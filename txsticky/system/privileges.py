"""Users and groups: the identity that workers are executed under."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from .trust import Identity


def account(user: str | None, group: str | None) -> tuple[int, int, str]:
    """
    Look a user and a group up.

    :param user: a name or a number; None is the user that this process runs as.
    :param group: likewise; None is the user's own group.
    :returns: the numbers of both, and the user's name.
    :raises ConfigError: there is no such user or group, or only root could become it.
    """
    try:
        entry = _lookup(pwd.getpwnam, pwd.getpwuid, user) if user else pwd.getpwuid(os.geteuid())
    except (KeyError, OverflowError):
        raise ConfigError(
            option="--user", value=user, hint="this system has no such user"
        ) from None
    gid = entry.pw_gid
    if group:
        try:
            gid = _lookup(grp.getgrnam, grp.getgrgid, group).gr_gid
        except (KeyError, OverflowError):
            raise ConfigError(
                option="--group", value=group, hint="this system has no such group"
            ) from None
    if os.geteuid() and (entry.pw_uid, gid) != (os.geteuid(), os.getegid()):
        raise ConfigError(
            option="--user", value=user, hint="only root can run workers as another user"
        )
    return entry.pw_uid, gid, entry.pw_name


def _lookup(by_name: Callable[[str], Any], by_number: Callable[[int], Any], text: str) -> Any:
    return by_number(int(text)) if text.isdigit() else by_name(text)


def identity_of(user: str | None, group: str | None) -> Identity | None:
    """
    The user that workers are executed as, if it is another than this process's.

    :raises ConfigError: see `account`.
    """
    if not (user or group):
        return None
    uid, gid, name = account(user, group)
    if os.geteuid():
        return None
    return Identity(uid, gid, tuple(os.getgrouplist(name, gid)))


def executed_as(identity: Identity | None) -> dict[str, Any]:
    """Arguments of `subprocess.Popen`: the child is this user before it executes anything."""
    if identity is None:
        return {}
    return {"user": identity.uid, "group": identity.gid, "extra_groups": identity.groups}
