"""The write side of a connection: how frames reach one client."""
