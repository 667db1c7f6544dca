"""The networks of the app: every module here registers some, without importing torch."""
