``examples/systemd/hardened.conf`` restricts the service to what it needs, ``examples/prometheus`` has alerts and ``examples/grafana`` a dashboard.
