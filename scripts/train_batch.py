"""The same as `textassay train`."""

from textassay.commands.train_batch import main

if __name__ == "__main__":
    main()
