"""The same as `textassay train-full`."""

from textassay.commands.train_full import main

if __name__ == "__main__":
    main()
