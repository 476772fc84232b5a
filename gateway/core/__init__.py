"""What every room may import: structs, errors, money, clock, ids. Imports nothing of the gateway."""
