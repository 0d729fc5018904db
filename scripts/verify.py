"""The same as `textassay verify`."""

from textassay.commands.verify import main

if __name__ == "__main__":
    main()
