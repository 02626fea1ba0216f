"""The primary replaces itself by a new version of the program in place."""
