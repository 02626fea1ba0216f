An embedded ``Cluster`` ends its program as the command does, with exit code 3 if the application does not load;
``on_ended`` may stop the reactor, and ``Cluster.handle_signals()`` takes the command's signals, USR2 included.
``Config`` has the command's defaults: a worker for each core, or ``$WEB_CONCURRENCY``.
