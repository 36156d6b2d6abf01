"""Tests: pure, contract, and whole processes (in `whole/`)."""
