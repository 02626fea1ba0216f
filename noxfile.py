"""The checks in fresh environments: ``nox``, or ``nox -s lint``. ``nox -l`` lists them."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4"
nox.options.sessions = ["tests", "lint", "types", "docs", "package"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Run the tests: all, or those that are named behind ``--``."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Look for mistakes, and at the form."""
    session.install("ruff>=0.6")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install("-e", ".[test]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Make the documentation."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build")


@nox.session
def package(session: nox.Session) -> None:
    """Make what is to be published, and check it."""
    session.install("build", "twine")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", f"{folder}/dist")
    session.run("twine", "check", "--strict", f"{folder}/dist/*")
