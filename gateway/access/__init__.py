"""Who asks: bearer to identity."""
