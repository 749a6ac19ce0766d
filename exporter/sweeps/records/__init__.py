"""What a sweep leaves on the disk: its plan, how far each job is, and a result for each that ended."""
