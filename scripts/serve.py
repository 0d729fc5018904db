"""The same as `textassay serve`."""

from textassay.commands.serve import main

if __name__ == "__main__":
    main()
