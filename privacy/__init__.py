"""The mathematics of the guarantee. Nothing here knows Beam, files or the command line."""
