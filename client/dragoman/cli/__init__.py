"""The command line ``dragoman``: the client's own commands, and the place where every room's meet."""
