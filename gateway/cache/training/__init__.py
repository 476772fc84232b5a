"""What makes the shipped pair verifier: pair generation, training, export. Nothing here runs in the gateway."""
