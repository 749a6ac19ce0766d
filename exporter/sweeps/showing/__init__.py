"""Where a sweep is shown: the table, its files, the page with its charts, and the view while it runs."""
