"""The same as `textassay predict`."""

from textassay.commands.predict import main

if __name__ == "__main__":
    main()
