"""What an engine costs that hosts share, and what they have of it, beside others on the same."""
