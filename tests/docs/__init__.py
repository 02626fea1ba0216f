"""The documentation: that it can be built, found and believed."""
