"""A sticky multi-worker server: connections move, bytes don't.

A primary process accepts each TCP connection, reads one request head, decides which worker it
belongs to, and passes the open descriptor with the bytes already read. From then on every byte
flows between the client and the worker through the kernel.

A map of the house, each floor importing only what stands above it:

* `errors`: one class per refusal; its docstring is the sentence that the operator reads.
* `core`: values and decisions (heads, framing, keys, tags, pool, route), free of I/O.
* `config`: every option, checked and frozen; `system`: the operating system as one argument.
* `descriptor`, `mailbox`, `channel`, `peek`: how a connection is let go, carried, and adopted.
* `primary` and `worker`: the two kinds of process; `gate` watches request boundaries in a worker;
  `serve` speaks to the application: twisted.web, WSGI, ASGI, autobahn, any protocol factory.
* `supervisor` starts, reloads and retires workers; `bus` carries messages between them; `admin`
  is the status page, the metrics and the control socket.
* `plugin` and `__main__`: the command line.
"""

__version__ = "0.1.0"
