"""The same as `textassay export`."""

from textassay.commands.export import main

if __name__ == "__main__":
    main()
