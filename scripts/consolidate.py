"""The same as `textassay consolidate`."""

from textassay.commands.consolidate import main

if __name__ == "__main__":
    main()
