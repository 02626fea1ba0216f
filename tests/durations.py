"""What ``python -m tests`` knows of the longest test modules."""

from __future__ import annotations

#: Seconds that a module takes beside others on a machine of two cores: the longest are begun first.
SECONDS: dict[str, int] = {
    "tests.integration.test_accept_workers": 110,
    "tests.integration.test_asgi": 100,
    "tests.integration.test_beginning": 100,
    "tests.integration.test_chaos": 80,
    "tests.integration.test_documentation": 60,
    "tests.integration.test_ending": 190,
    "tests.integration.test_endings": 140,
    "tests.integration.test_endings_leaving": 210,
    "tests.integration.test_endings_websocket": 90,
    "tests.integration.test_examples": 100,
    "tests.integration.test_faults": 100,
    "tests.integration.test_inheritance": 130,
    "tests.integration.test_kernel_routes": 180,
    "tests.integration.test_life": 150,
    "tests.integration.test_odd": 110,
    "tests.integration.test_packaging": 60,
    "tests.integration.test_pauses": 170,
    "tests.integration.test_pressure": 80,
    "tests.integration.test_privileges": 170,
    "tests.integration.test_reload_rolling": 120,
    "tests.integration.test_routing": 110,
    "tests.integration.test_service_manager": 60,
    "tests.integration.test_socketio_clients": 150,
    "tests.integration.test_socketio_rooms": 120,
    "tests.integration.test_stopping": 90,
    "tests.integration.test_streams": 60,
    "tests.integration.test_supervision": 80,
    "tests.integration.test_upgrade": 90,
    "tests.template.test_process": 30,
    "tests.test_mutants": 25,
    "tests.worker.test_hosts": 40,
}
#: Modules that keep a core or more busy all the time: no two of them run at once.
COMPUTING: frozenset[str] = frozenset(
    {
        "tests.integration.test_documentation",
        "tests.integration.test_leaks",
        "tests.integration.test_packaging",
        "tests.integration.test_pressure",
        "tests.test_mutants",
    }
)
