"""
Whose code runs as root: with ``--user``, none that this user may write.

Workers are never root: they are executed as the user that they are to be.  The primary stays root,
and is executed anew (USR2) as root; it takes modules from no folder that the workers' user could
put a module into, so neither from the working directory nor from such an entry of PYTHONPATH.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping

import attrs

from .startup import HOME

#: Symbolic links that are followed (path_resolution(7)).
_LINKS = 40


@attrs.frozen
class Identity:
    """
    An unprivileged user that processes are executed as.

    :param uid: the user's number.
    :param gid: the number of its group.
    :param groups: the numbers of all its groups.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def may_write(self, path: str) -> bool:
        """
        Whether the user may change what a path leads to.

        That is the file or folder itself, or a folder or link on the way to it. What cannot be
        looked at counts as written; access control lists do not count (acl(5)).

        :param path: absolute; otherwise the answer is yes, for it leads where the process stands.
        """
        if not os.path.isabs(path):
            return True
        here, links = "/", 0
        pending = _parts(path)
        while True:
            try:
                found = os.lstat(here)
                target = os.readlink(here) if stat.S_ISLNK(found.st_mode) else None
            except FileNotFoundError:
                return False  # and no folder before was this user's
            except OSError:
                return True
            if self._changes(found, last=not pending):
                return True
            if target is not None:
                links += 1
                if links > _LINKS:
                    return True
                pending += _parts(target)
                here = "/" if os.path.isabs(target) else os.path.dirname(here)
            elif not pending:
                return False
            if pending:
                here = os.path.normpath(os.path.join(here, pending.pop()))

    def _changes(self, found: os.stat_result, last: bool) -> bool:
        """Whether the user may change a file or link, or what is in a folder."""
        if found.st_uid == self.uid:
            return True
        if stat.S_ISLNK(found.st_mode):
            return False
        if found.st_mode & stat.S_ISVTX and not last:
            return False  # there, only the owner may replace an entry, which is looked at next
        if found.st_gid in (self.gid, *self.groups):
            return bool(found.st_mode & stat.S_IWGRP)
        return bool(found.st_mode & stat.S_IWOTH)


def _parts(path: str) -> list[str]:
    """The names in a path, the first one last."""
    return [part for part in path.split("/") if part][::-1]


def trusted_path(text: str, identity: Identity) -> str:
    """
    PYTHONPATH for an interpreter that runs as root.

    :param text: what the operator has set.
    :param identity: the user that may have written none of it.
    :returns: the entries that this user cannot write, in their order.
    """
    entries = text.split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if not identity.may_write(entry))


def distrust(path: list[str], text: str, identity: Identity) -> None:
    """
    Take from the running program's path what PYTHONPATH has brought, but this user may write.

    :param path: `sys.path`, which is changed. The folder of this package stays.
    :param text: PYTHONPATH.
    """
    trusted = trusted_path(text, identity).split(os.pathsep)
    gone = {os.path.abspath(entry) for entry in text.split(os.pathsep) if entry not in trusted}
    path[:] = [entry for entry in path if entry == HOME or os.path.abspath(entry) not in gone]


def written(paths: Iterable[str], identity: Identity) -> list[str]:
    """Find those of the paths that exist and that the user may write."""
    return [path for path in paths if os.path.lexists(path) and identity.may_write(path)]


def own_command(identity: Identity | None) -> list[str]:
    """
    What follows the interpreter on the command line that starts this program once more.

    :param identity: the workers' user if it is another than this process's, which then takes
        nothing from the working directory.
    """
    # With -m and -c that is where the interpreter looks first (https://docs.python.org/3/using/
    # cmdline.html#cmdoption-P); a script has its own folder in its place.
    main = sys.modules["__main__"]
    looks = getattr(main, "__spec__", None) is not None or sys.argv[:1] == ["-c"]
    safe = identity is None or sys.flags.safe_path or not looks
    return [*([] if safe else ["-P"]), *sys.orig_argv[1:]]


def own_environment(environ: Mapping[str, str], identity: Identity | None) -> dict[str, str]:
    """What differs in the environment for `own_command`: a PYTHONPATH that root may use."""
    if identity is None or "PYTHONPATH" not in environ:
        return {}
    return {"PYTHONPATH": trusted_path(environ["PYTHONPATH"], identity)}
