A connection that carries one request costs a quarter less, whether the primary hands it off or the kernel routes it; with
``--sticky ip --accept workers`` it costs no more than with plain Twisted.
