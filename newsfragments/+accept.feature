With ``--accept workers`` a short connection costs less: its head is read once, and a worker takes up to four connections in one turn, each served before the next.
