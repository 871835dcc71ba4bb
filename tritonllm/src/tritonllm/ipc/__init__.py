"""Streams between the processes of one run, over Unix sockets in its private directory."""
