"""From accept(2) to a complete first request head: acceptor, reception and refusals."""
