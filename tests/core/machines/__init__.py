"""Tests of txsticky.core.machines."""
