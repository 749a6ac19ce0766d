"""A sweep: many exports, one row each on the disk as it ends, and one table over them in the end.

The rows are files, so a sweep survives whatever happens to a job, to the machine that ran it, and to the process that
collects them; and the jobs may run anywhere that shares the file system.
"""
