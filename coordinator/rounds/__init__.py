"""What happens next in a round and in a study: pure functions on frozen values, no database and no clock."""
