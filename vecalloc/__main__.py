"""`python -m vecalloc` is `vecalloc`."""

from vecalloc.cli import main

main()
