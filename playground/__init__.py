"""Train a small decoder-only transformer from scratch, watch it learn, look inside it, and generate with it."""
