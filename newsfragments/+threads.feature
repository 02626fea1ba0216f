``txsticky.current()`` can be used in any thread.
