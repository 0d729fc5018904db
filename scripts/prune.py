"""The same as `textassay prune`."""

from textassay.commands.prune import main

if __name__ == "__main__":
    main()
