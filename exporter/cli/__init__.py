"""The command line: what is typed becomes configs, commands and pages."""
