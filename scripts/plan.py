"""The same as `textassay plan`."""

from textassay.commands.plan import main

if __name__ == "__main__":
    main()
