``--log-level`` and ``--log-config`` set what Twisted and Python's ``logging`` log, as in uvicorn. Under ``twist`` the log is text, wherever it goes, unless JSON is asked for.
