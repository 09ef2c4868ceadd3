"""What is done besides training: telling, showing, saving, measuring. One file, one hook."""
