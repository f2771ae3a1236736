"""Loss, bits per character, the one protocol and dynamic evaluation."""
