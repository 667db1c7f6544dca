"""What a network looks at, whether its maps are faithful, and what is unlike all that it learned."""
