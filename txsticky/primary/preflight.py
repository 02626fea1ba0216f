"""What can be seen before anything is opened: a fault is better told once than by each worker."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from typing import Final

from ..bus.hub import check_library
from ..config import Config
from ..core.routing.tag import SECRET_MOST, secret_of
from ..errors import ConfigError
from ..system.descriptors import descriptor_ceiling, raise_file_limit
from ..system.logs.config_file import read_log_config
from ..system.privileges import executed_as, identity_of
from ..system.trust import Identity

#: Descriptors of the primary for each worker: its mailbox's two ends, its channel, its output and
#: its process.
EACH: Final = 5
#: Those that the primary has besides: endpoints, front desk, template, log.
BESIDES: Final = 18


def check(config: Config) -> None:
    """
    See whether workers could run as a configuration says; all descriptors are used that may be.

    :raises TlsError: a certificate or its key cannot be used.
    :raises ConfigError: the workers cannot run as that user, there are too few descriptors for so
        many, Python's logging cannot be configured as the file says, a file has no secret, or a
        library for the bus is missing.
    """
    raise_file_limit()
    check_descriptors(config, descriptor_ceiling())
    check_library(config.bus)
    if config.secret_file is not None:
        read_secret(config.secret_file)
    if config.log_config is not None:
        read_log_config(config.log_config)
    if config.tls:
        from ..tls.certificates import load_certificates

        load_certificates(config.tls_cert, config.tls_key)
    identity = identity_of(config.user, config.group)
    if identity is not None:
        check_identity(config, identity)


def check_descriptors(config: Config, most: int) -> None:
    """
    See whether there are descriptors for all workers, and one connection on its way to each.

    :param most: how many the primary may have for them.
    :raises ConfigError: there are too few.
    """
    each = EACH + sum(map(config.shares, config.listen)) + 1
    if BESIDES + config.workers * each <= most:
        return
    hint = (
        f"the limit of open files leaves {most} descriptors, and each worker takes {each};"
        f" raise it (ulimit -n, or LimitNOFILE of systemd)"
    )
    enough = (most - BESIDES) // each
    if enough > 0:
        hint += f", or run {enough} at most"
    raise ConfigError(option="--workers", value=config.workers, hint=hint)


def check_identity(config: Config, identity: Identity) -> None:
    """
    See whether the workers' user can run what workers run.

    :raises ConfigError: the user cannot.
    """
    command = [sys.executable, "-P", "-c", "import txsticky.errors, twisted"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, **executed_as(identity)
        )
        problem = done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        hint = f"as that user {sys.executable} does not run a worker ({problem})"
        option, value = ("--user", config.user) if config.user else ("--group", config.group)
        raise ConfigError(option=option, value=value, hint=hint)


def read_secret(path: str) -> bytes:
    """
    Read the secret that signs the tags.

    The file is not made where it is missing: each machine would make another one, unseen.

    :raises ConfigError: the file cannot be read, is open to other users, or has no secret.
    """
    try:
        # A pipe that nothing writes to would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            hint = _exposed(os.fstat(descriptor).st_mode, path)
            content = b"" if hint else os.read(descriptor, 2 * SECRET_MOST)
        finally:
            os.close(descriptor)
        if not hint:
            return secret_of(content)
    except FileNotFoundError:
        hint = (
            "there is no such file; make it once, and copy it to the other machines:"
            f" (umask 077; head -c 32 /dev/urandom | base64 > {shlex.quote(path)})"
        )
    except (OSError, ValueError) as error:
        hint = getattr(error, "strerror", None) or str(error)
    raise ConfigError(option="--secret-file", value=path, hint=hint)


def _exposed(mode: int, path: str) -> str:
    """Tell what is wrong with the mode of a file that holds a secret; empty if nothing is."""
    if not stat.S_ISREG(mode):
        return "it is no file"
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        permissions = f"{stat.S_IMODE(mode):03o}"
        return f"other users may use it (mode {permissions}); chmod 600 {shlex.quote(path)}"
    return ""
