"""The door of the command line: `vecalloc` and `python -m vecalloc`."""

import signal


def main() -> None:
    """Run the command line; Ctrl-C ends it without a traceback from the first moment on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vecalloc.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
