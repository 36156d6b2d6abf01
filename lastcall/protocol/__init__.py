"""What clients speak: bytes in, commands out, and back."""
