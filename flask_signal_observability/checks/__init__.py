"""What a person would check by hand: a room for each subject, which looks and changes nothing."""
