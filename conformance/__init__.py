"""Our WebSocket class against the fuzzing client of the Autobahn test suite."""
