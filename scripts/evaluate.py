"""The same as `textassay evaluate`."""

from textassay.commands.evaluate import main

if __name__ == "__main__":
    main()
