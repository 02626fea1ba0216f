"""Tests of a worker that leads."""
