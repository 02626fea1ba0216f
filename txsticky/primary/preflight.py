"""What can be seen before anything is opened: a fault is better told once than by each worker."""

from __future__ import annotations

import subprocess
import sys

from ..config import Config
from ..errors import ConfigError
from ..system.logs.config_file import read_log_config
from ..system.privileges import executed_as, identity_of
from ..system.trust import Identity


def check(config: Config) -> None:
    """
    See whether workers could run as a configuration says.

    :raises TlsError: a certificate or its key cannot be used.
    :raises ConfigError: the workers cannot run as that user, or Python's logging cannot be
        configured as the file says.
    """
    if config.log_config is not None:
        read_log_config(config.log_config)
    if config.tls:
        from ..tls.certificates import load_certificates

        load_certificates(config.tls_cert, config.tls_key)
    identity = identity_of(config.user, config.group)
    if identity is not None:
        check_identity(config, identity)


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
