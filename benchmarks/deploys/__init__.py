"""What deploys do to clients: a crowd that checks every message, and what is done to its server."""
