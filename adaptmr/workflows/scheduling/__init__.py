"""When workflows run by themselves: at moments of a cron, or when new scans ask for it."""
