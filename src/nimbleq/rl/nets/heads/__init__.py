"""What a network learns of the return: one file per head, and the table of them."""
