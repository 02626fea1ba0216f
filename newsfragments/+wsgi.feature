WSGI applications are answered from threads with one wake of the reactor, at a fraction of the CPU. A large request body
is read while it comes, ``wsgi.file_wrapper`` holds no thread, a list gets a ``Content-Length``, and
``--response-buffer`` says how much of a response may wait for its client.
