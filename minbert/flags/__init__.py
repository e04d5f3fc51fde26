"""The command line of the scripts. Imports no torch."""
