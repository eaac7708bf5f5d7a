"""`python -m bgfetch`."""

from bgfetch.cli.main import main

if __name__ == "__main__":
    main()
