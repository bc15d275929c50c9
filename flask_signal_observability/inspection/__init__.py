"""What an observed app is set up to do, told to whoever asks."""
