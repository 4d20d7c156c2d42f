"""What tests share: servers, databases, names, waiting."""
