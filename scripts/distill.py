"""The same as `textassay distill`."""

from textassay.commands.distill import main

if __name__ == "__main__":
    main()
