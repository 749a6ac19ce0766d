"""Stands before scikit-learn: Keras imports it wherever it is installed, which takes a second of each process's start.

It comes with NNCF, which does not use it for what is tested, and no test uses Keras's wrappers for it.
"""

raise ImportError("hidden by tests/conftest.py")
