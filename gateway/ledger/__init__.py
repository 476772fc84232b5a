"""Every accepted request as one row: the journal, the store, the reports."""
