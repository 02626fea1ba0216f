"""What to name in place of an object that is no application, for objects of known libraries."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

#: Advice by a library and the name of one of its classes. {it} is what the operator named, as
#: module:attribute, {module} and {name} are its parts.
_ADVICE: Final = {
    ("klein", "Klein"): "name its resource, with --factory: {it}.resource",
    ("mcp", "MCPServer"): "name what makes its application, with --factory: "
    "{it}.streamable_http_app",
    ("mcp", "FastMCP"): "name what makes its application, with --factory: {it}.streamable_http_app",
    ("fastmcp", "FastMCP"): "name what makes its application, with --factory: {it}.http_app",
    ("dash", "Dash"): "name its Flask application: {it}.server",
    ("gradio", "Blocks"): "mount it, and name what it is mounted on: "
    'app = gradio.mount_gradio_app(fastapi.FastAPI(), {name}, path="/")',
    ("nicegui", "App"): "mount it on an application, and name that: "
    "app = fastapi.FastAPI(); nicegui.ui.run_with(app)",
    ("panel", "ServableMixin"): "add it to a FastAPI application, and name that: "
    "panel.io.fastapi.add_application",
    ("panel", "BaseTemplate"): "add it to a FastAPI application, and name that: "
    "panel.io.fastapi.add_application",
    ("bokeh", "Application"): "it needs Bokeh's server; bokeh_fastapi.BokehFastAPI serves it in an"
    " ASGI application",
    ("flask_socketio", "SocketIO"): "name the Flask application that it was made for",
    ("flask", "Blueprint"): "register it with a Flask application, and name that",
    ("socketio", "AsyncServer"): "wrap it, and name that: app = socketio.ASGIApp({name})",
    ("socketio", "Server"): "wrap it, and name that: app = socketio.WSGIApp({name})",
    ("engineio", "AsyncServer"): "wrap it, and name that: app = engineio.ASGIApp({name})",
    ("engineio", "Server"): "wrap it, and name that: app = engineio.WSGIApp({name})",
    ("aiohttp", "Application"): "aiohttp speaks neither ASGI nor WSGI, and serves by itself alone",
    ("tornado", "Application"): "Tornado speaks neither ASGI nor WSGI, and serves by itself alone",
    ("celery", "Celery"): "it works for tasks and has no pages; `celery worker` runs it",
    ("uvicorn", "Config"): "name the application that it was made for",
    ("uvicorn", "Server"): "name the application that it was made for",
    ("strawberry", "Schema"): "wrap it, and name that: app = strawberry.asgi.GraphQL({name})",
}

#: Of these, those that later versions of the library make WSGI applications.
_MAY_BE_CALLED: Final = {("dash", "Dash")}

#: Libraries whose applications are scripts, by the name under which a script imports them.
_SCRIPTS: Final = {
    "streamlit": "it is a Streamlit script: write another module with"
    ' app = streamlit.starlette.App("{file}"), and name that',
}

#: Libraries whose pages are made by functions without arguments, likewise.
_FUNCTIONS: Final = {
    "panel": "if it makes a page of Panel, add it to a FastAPI application, and name that:"
    " panel.io.fastapi.add_application",
}


def advice_for(app: object, target: str) -> str | None:
    """
    Return what to name in place of an object of a known library.

    :param target: what the operator named, as module:attribute.
    :returns: a clause; None if the object is not known.
    """
    module, _, name = target.partition(":")
    for kind in type(app).__mro__:
        known = (kind.__module__.partition(".")[0], kind.__name__)
        found = _ADVICE.get(known)
        if found is not None and not (known in _MAY_BE_CALLED and callable(app)):
            return found.format(it=target or "NAME", module=module, name=name or "NAME")
    return None


def script_advice(module: ModuleType) -> str | None:
    """
    Return what to do with a module that is the script of a known library, and has no application.

    :returns: a clause; None if the module is no such script.
    """
    advice = _by_imports(module, _SCRIPTS)
    file = (getattr(module, "__file__", None) or module.__name__).rpartition("/")[2]
    return None if advice is None else advice.format(file=file)


def function_advice(function: object) -> str | None:
    """
    Return what to do with a function without arguments that may make a page of a known library.

    :returns: a clause; None if its module imports no such library.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    return None if module is None else _by_imports(module, _FUNCTIONS)


def _by_imports(module: ModuleType, advice: Mapping[str, str]) -> str | None:
    """Return the advice for the first library that a module has imported, if there is one."""
    for value in vars(module).values():
        if isinstance(value, ModuleType) and value.__name__ in advice:
            return advice[value.__name__]
    return None


def greenlets() -> str | None:
    """
    Say what to do where the application has put greenlets in the place of Python's threads.

    A greenlet runs only while another one waits, and the reactor never does. Where gevent has
    patched all but the threads, requests are served, but the worker does not end by itself.

    :returns: a clause; None if Python is as it was.
    """
    gevent: Any = sys.modules.get("gevent.monkey")
    eventlet: Any = sys.modules.get("eventlet.patcher")
    parts = ("thread", "socket", "select")
    if gevent is not None and any(map(gevent.is_module_patched, parts)):
        call = "gevent.monkey.patch_all()"
    elif eventlet is not None and any(map(eventlet.is_monkey_patched, parts)):
        call = "eventlet.monkey_patch()"
    else:
        return None
    return (
        f"it calls {call}, and greenlets do not run beside the reactor that serves it: leave the"
        " call out. Each request gets a thread here (--threads), and Flask-SocketIO serves in"
        " threads with async_mode='threading'"
    )
