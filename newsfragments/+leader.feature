One of the workers leads, and never two: ``txsticky.current().leader`` tells, and ``txsticky.on_leader(start, stop)`` has one worker run a scheduler, through reloads, deaths and upgrades.
