"""The same as `textassay compare`."""

from textassay.commands.compare import main

if __name__ == "__main__":
    main()
