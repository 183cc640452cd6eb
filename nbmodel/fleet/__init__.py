"""Many runtimes: those known, reaching them, and what is to run on them."""
