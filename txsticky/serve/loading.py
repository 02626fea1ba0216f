"""Import the application that `module:attribute` names, and detect its interface."""

from __future__ import annotations

import abc
import difflib
import importlib
import inspect
import os
import pkgutil
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType, TracebackType
from typing import Literal

from twisted.application.service import IService
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.web.resource import IResource
from zope.interface import implementedBy
from zope.interface.declarations import BuiltinImplementationSpecifications

from ..errors import AppLoadError
from .advice import advice_for, function_advice, greenlets, script_advice

Interface = Literal["web", "wsgi", "asgi", "protocol"]

#: Classes of Python's library from which Twisted's and any application's are derived.
_COMMON = (abc.ABC, abc.ABCMeta, typing.Generic, typing.Protocol, type(typing.Protocol))
_KINDS: dict[Interface, str] = {
    "web": "a twisted.web Resource",
    "wsgi": "a WSGI application",
    "asgi": "an ASGI application",
    "protocol": "a protocol factory",
}
#: The names that zope.interface adds to a class.
_MARKS = ("__implemented__", "__provides__", "__providedBy__")


class AppRaisedError(AppLoadError):
    """The application {target} does not load: {reason}."""


def unmark_library() -> None:
    """
    Keep zope.interface's marks off the classes of Python's library.

    Twisted's reactors implement interfaces in classes derived from `abc.ABC`. zope.interface then
    marks `abc.ABC`, and `dir()` lists the marks for every class of the application that derives
    from it, although reading them raises AttributeError. Gradio, for example, reads all that
    `dir()` lists. zope.interface looks first in a table of its own, which it keeps for classes that
    take no marks (`object`): the entries go there.
    """
    for kind in _COMMON:
        known = implementedBy(kind)
        for name in _MARKS:
            if name in vars(kind):
                delattr(kind, name)
        BuiltinImplementationSpecifications[kind] = known


def load(target: str, factory: bool = False) -> object:
    """
    Import an application.

    The current directory is searched first, as by uvicorn and gunicorn.

    :param target: `module:attribute`; both may be dotted.
    :param factory: whether to call the attribute, without arguments, to get the application.
    :raises AppLoadError: there is no such module or attribute, or the application raised while it
        was imported or called (`AppRaisedError`).
    """
    module_name, attribute = _parts(target)
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        reason = "the directory in which it was started is gone"
        raise AppLoadError(target=target, reason=reason) from None
    unmark_library()
    if not sys.path or sys.path[0] not in ("", folder):
        sys.path.insert(0, folder)
    found = _attribute(target, _module(target, module_name), attribute)
    advice = greenlets()
    if advice is not None:
        raise AppLoadError(target=target, reason=advice)
    if not factory:
        return found
    if not callable(found):
        raise AppLoadError(
            target=target,
            reason=f"with --factory it has to be callable, and it is {describe(found)}",
        )
    return called(target, found)


def _parts(target: str) -> tuple[str, str]:
    """
    Take `module:attribute` apart.

    :raises AppLoadError: it is none.
    """
    module_name, colon, attribute = target.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        module = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise AppLoadError(
            target=target,
            reason=f"give the module's name, not its file: {module}:{attribute or 'app'}",
        )
    if attribute.endswith("()"):
        raise AppLoadError(
            target=target,
            reason=f"leave out the parentheses, and add --factory: {target.removesuffix('()')}",
        )
    if not (module_name and colon and attribute):
        raise AppLoadError(
            target=target,
            reason=f"write it as module:attribute, for example {module_name or 'module'}:app",
        )
    return module_name, attribute


def called(target: str, function: Callable[[], object]) -> object:
    """
    Call something of an application's.

    :raises AppRaisedError: it raised an exception.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise _raised(target, error) from error


def _module(target: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A missing module that the application imports is an error of the application.
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise _raised(target, error) from error
        raise AppLoadError(
            target=target,
            reason=f"there is no module {missing}{_nearest(missing, _siblings(missing))}",
        ) from error
    except (Exception, SystemExit) as error:
        raise _raised(target, error) from error


def _siblings(name: str) -> Iterable[str]:
    """List the modules beside a missing one: in its package, or in the current directory."""
    package, _, _ = name.rpartition(".")
    where = getattr(sys.modules.get(package), "__path__", []) if package else [os.getcwd()]
    prefix = package + "." if package else ""
    return (info.name for info in pkgutil.iter_modules(where, prefix))


def _attribute(target: str, found: object, path: str) -> object:
    place = target.partition(":")[0]
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            advice = script_advice(found) if isinstance(found, ModuleType) else None
            nearest = _nearest(name, dir(found))
            raise AppLoadError(
                target=target, reason=advice or f"{place} has no attribute {name}{nearest}"
            ) from error
        place += "." + name
    return found


def _nearest(name: str, names: Iterable[str]) -> str:
    """Phrase the question whether one of `names` was meant; empty if none is like `name`."""
    near = difflib.get_close_matches(name, [n for n in names if not n.startswith("__")], n=3)
    return f" (is it {' or '.join(near)}?)" if near else ""


def _raised(target: str, error: BaseException) -> AppRaisedError:
    line = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        place = _place(error.__traceback__)
    return AppRaisedError(
        target=target,
        reason=f"{line.rstrip('.')} (at {place})" if place else line,
    )


def _place(trace: TracebackType | None) -> str:
    """Find the line of the application's own code that a traceback passed last."""
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if frame.filename != __file__
        and frame.filename != importlib.__file__
        and not frame.filename.startswith("<frozen ")
    ]
    own = [frame for frame in frames if _is_own(frame.filename)]
    for frame in (own or frames)[-1:]:
        return f"{frame.filename}:{frame.lineno}"
    return ""


def _is_own(filename: str) -> bool:
    """Tell files under the current directory from packages, also in a virtualenv there."""
    return filename.startswith(os.getcwd() + os.sep) and "site-packages" not in filename


def detect(app: object, target: str = "") -> Interface:
    """
    Detect which interface an application speaks.

    A twisted.web Resource is `web`; a protocol factory, a Site too, is `protocol`; a callable that
    returns a coroutine (ASGI 3) is `asgi`; any other callable of two arguments is `wsgi`.

    :param app: the application.
    :param target: the name of the application for the error.
    :raises AppLoadError: the object cannot be served; the sentence says what to do.
    """
    if inspect.isclass(app):
        return _detect_class(app, target)
    if IResource.providedBy(app):
        return "web"
    if IProtocolFactory.providedBy(app):
        return "protocol"
    advice = advice_for(app, target)
    if advice is not None:
        raise AppLoadError(
            target=target or describe(app), reason=f"it is {describe(app)}; {advice}"
        )
    if not callable(app):
        raise AppLoadError(target=target or describe(app), reason=_advice(app))
    if _is_async(app):
        return "asgi"
    return _detect_callable(app, target)


def check(app: object, interface: str, target: str = "") -> None:
    """
    Check that an application may speak the interface that the operator says.

    :param app: the application.
    :param interface: `web`, `wsgi`, `asgi` or `protocol`.
    :param target: the name of the application for the error.
    :raises AppLoadError: it speaks another one; the sentence says which.
    """
    try:
        found = detect(app, target)
    except AppLoadError:
        if advice_for(app, target) is not None:
            raise
        return  # the interface has its own error for what is none
    if found == interface or (interface == "asgi" and found == "wsgi" and _takes(app, 3)):
        return
    raise AppLoadError(
        target=target or describe(app),
        reason=f"it is {_KINDS[found]}; leave out --interface={interface}, or say {found} there",
    )


def _takes(app: object, count: int) -> bool:
    """Whether an object can be called with so many arguments, as far as can be known."""
    try:
        inspect.signature(app).bind(*[None] * count)  # type: ignore[arg-type]
    except TypeError:
        return False
    except ValueError:  # a builtin, which tells nothing
        return True
    return True


def _detect_class(app: type, target: str) -> Interface:
    name = app.__qualname__
    if IResource.implementedBy(app) or IProtocolFactory.implementedBy(app):
        reason = f"{name} is a class; name an instance of it, or add --factory to call it"
    elif IProtocol.implementedBy(app):
        reason = f"{name} is a protocol; name a factory, as Factory.forProtocol({name}) makes one"
    elif hasattr(app, "__await__"):
        return "asgi"
    elif hasattr(app, "__iter__"):
        return "wsgi"
    else:
        reason = f"{name} is a class and no application; add --factory if calling it makes one"
    raise AppLoadError(target=target or describe(app), reason=reason)


def _is_async(app: Callable[..., object]) -> bool:
    while isinstance(app, partial):
        app = app.func
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


def _detect_callable(app: Callable[..., object], target: str) -> Interface:
    """Detect by the arguments: (environ, start_response) is WSGI, (scope, receive, send) ASGI."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):  # a builtin, which tells nothing
        return "wsgi"
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    required = sum(p.default is p.empty for p in positional)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) or required <= 2 <= len(positional):
        return "wsgi"
    if required == 3:
        return "asgi"
    if required == 0:
        reason = "it takes no arguments; " + (
            function_advice(app) or "add --factory if calling it returns the application"
        )
    else:
        reason = (
            f"it takes {required} argument(s), where a WSGI application takes 2 and an ASGI "
            "application 3"
        )
    raise AppLoadError(target=target or describe(app), reason=reason)


def _advice(app: object) -> str:
    if isinstance(app, ModuleType):
        return "it is a module; name the application in it as module:attribute"
    if inspect.iscoroutine(app):
        app.close()  # else Python warns that it was never awaited
        return "it is a coroutine; the factory has to return the application, not await it"
    if IProtocol.providedBy(app):
        return "it is one protocol; name a factory, which makes a protocol for each connection"
    if IService.providedBy(app):
        return "it is a service, which listens for itself; name the Resource or factory it serves"
    return (
        f"it is {describe(app)}, and not a twisted.web Resource, a protocol factory, an ASGI or a "
        "WSGI application"
    )


def describe(value: object) -> str:
    """Describe an object in a few words, for an error."""
    if inspect.isclass(value):
        return f"the class {value.__qualname__}"
    if inspect.isfunction(value) or inspect.ismethod(value):
        return f"the function {value.__qualname__}"
    name = type(value).__qualname__
    return f"{_article(name)} {name}"


def _article(name: str) -> str:
    """`a` or `an`, as a class name is spoken; capitals, as in MCPServer, letter by letter."""
    if name[:2].isupper():
        return "an" if name[0] in "AEFHILMNORSX" else "a"
    return "an" if re.match(r"[aeio]|un(?!i)|u[^ns]", name, re.IGNORECASE) else "a"
