"""Tests with real processes: the command is started as by an operator and spoken to over TCP."""
