"""What prepares a deployment: migrations, topics with their lanes, schemas."""
