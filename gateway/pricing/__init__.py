"""What tokens cost: the price book and the price of self-hosted GPUs."""
