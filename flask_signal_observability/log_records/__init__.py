"""Log records read back: chosen, and put together to what one request did."""
