"""The same as `textassay doctor`."""

from textassay.commands.doctor import main

if __name__ == "__main__":
    main()
