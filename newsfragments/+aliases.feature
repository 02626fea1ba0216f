gunicorn's and uvicorn's names of options are taken where they mean the same (``--bind``, ``--host --port``, ``--uds``,
``--timeout``, ``--access-logfile``, ``--reuse-port``, ``--certfile`` and others); an option that there is not is told with
what to do in its place.
