"""Publications between workers, and the history that recovery stands on."""
