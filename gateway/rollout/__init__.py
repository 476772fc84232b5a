"""Another policy on trial beside the one in force, and the way back from either."""
