"""The tests of txsticky, for trial: ``trial tests``."""
