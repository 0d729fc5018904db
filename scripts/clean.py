"""The same as `textassay clean`."""

from textassay.commands.clean import main

if __name__ == "__main__":
    main()
