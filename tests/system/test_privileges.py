"""Users and groups."""

from __future__ import annotations

import grp
import os
import pwd

from twisted.trial.unittest import SynchronousTestCase

from txsticky.errors import ConfigError
from txsticky.system.privileges import account, executed_as, identity_of
from txsticky.system.trust import Identity


class AccountTests(SynchronousTestCase):
    """Users and groups."""

    def test_own(self) -> None:
        """By default the account is the user that this process runs as, with that one's group."""
        entry = pwd.getpwuid(os.geteuid())
        self.assertEqual(account(None, None), (entry.pw_uid, entry.pw_gid, entry.pw_name))

    def test_names_and_numbers(self) -> None:
        """Users and groups may be named or numbered."""
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(os.getegid())
        expected = (user.pw_uid, group.gr_gid, user.pw_name)
        self.assertEqual(account(user.pw_name, group.gr_name), expected)
        self.assertEqual(account(str(user.pw_uid), str(group.gr_gid)), expected)

    def test_unknown(self) -> None:
        """Unknown users and groups are refused, each under its option."""
        for arguments, option in (
            (("nobody-knows", None), "--user"),
            (("4294967294999", None), "--user"),
            ((None, "nobody-knows"), "--group"),
            ((None, "4294967294999"), "--group"),
        ):
            error = self.assertRaises(ConfigError, account, *arguments)
            self.assertIn(option, str(error))

    def test_only_root(self) -> None:
        """A process that is not root can become no other user."""
        self.patch(os, "geteuid", lambda: 12345)
        error = self.assertRaises(ConfigError, account, "root", None)
        self.assertIn("only root", str(error))

    def test_identity(self) -> None:
        """Workers are another user if one is named, with all of its groups; and root says so."""
        self.patch(os, "geteuid", lambda: 0)
        entry = pwd.getpwnam("nobody")
        self.patch(os, "getgrouplist", lambda name, gid: [gid, 7] if name == "nobody" else [])
        self.assertEqual(
            identity_of("nobody", None), Identity(entry.pw_uid, entry.pw_gid, (entry.pw_gid, 7))
        )
        self.assertIsNone(identity_of(None, None))

    def test_own_identity(self) -> None:
        """A process that is not root, and names its own user, stays that user."""
        entry = pwd.getpwnam("nobody")
        self.patch(os, "geteuid", lambda: entry.pw_uid)
        self.patch(os, "getegid", lambda: entry.pw_gid)
        self.assertIsNone(identity_of("nobody", None))

    def test_executed_as(self) -> None:
        """A child is that user before it executes anything; without one it is this process's."""
        self.assertEqual(
            executed_as(Identity(7, 8, (8, 9))),
            {"user": 7, "group": 8, "extra_groups": (8, 9)},
        )
        self.assertEqual(executed_as(None), {})
