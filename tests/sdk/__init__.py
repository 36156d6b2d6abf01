"""The official SDKs as our clients: one shape for both, and a server for them."""
