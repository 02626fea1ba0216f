"""Seeing and steering the cluster: status page, metrics, health checks, control socket, ctl."""
