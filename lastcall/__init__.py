"""Real-time notifications for FastAPI that survive your deploys."""

__version__ = "0.1.0"
