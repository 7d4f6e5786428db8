"""Many videos through all commands: what is to be done (plan), doing it (tasks), and where (executors)."""
