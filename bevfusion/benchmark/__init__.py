"""How long the parts take, how much memory, and how far that is from what the hardware could do."""
