"""What speaks HTTP: webhooks, the API, live events, health, and the console page."""
