"""Where records come from, and which of them become members."""
