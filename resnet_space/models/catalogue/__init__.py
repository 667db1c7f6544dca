"""The networks that come with the app: every module here registers some, without importing torch."""
