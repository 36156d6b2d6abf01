"""What a process of ours exits with, for whoever started it to go by; 0 is an asked-for stop."""

FAILED = 1
"""It served, and something went wrong."""

CANNOT_START = 3
"""It never served and never would: the only status at which a stock master gives up."""
