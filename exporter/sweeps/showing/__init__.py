"""What is shown of a sweep: the table, the page, its charts, and the view while it runs."""
