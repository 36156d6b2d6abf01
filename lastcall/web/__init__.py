"""What people see in a browser: the chat page and its files."""
