"""
Benchmarks: txsticky side by side with its peers, on one machine, in one run.

``python -m benchmarks`` runs the short version in less than five minutes, ``--long`` everything.
Each round measures every contender once, one after the other, so that whatever else the machine
does falls on all of them; figures are medians of the rounds. CPU is what the kernel accounts to
each process (`/proc/PID/task/*/schedstat`), the front and the workers apart.
"""
