"""Files in, files out: scans, their doors, the simulator. Nothing is learned here."""
