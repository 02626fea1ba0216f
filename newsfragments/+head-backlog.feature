``--head-backlog`` says how many connections may wait for their first request; the bound of 10,000 was fixed.
