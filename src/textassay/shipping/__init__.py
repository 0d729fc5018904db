"""What an artifact becomes on its way to production: another form, or a smaller model."""
