``--lame-duck SECONDS``: at TERM ``/readyz`` says no, and the ports stay open and are served for so long before the usual graceful end; a second TERM cuts it short.
