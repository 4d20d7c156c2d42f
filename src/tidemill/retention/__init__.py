"""6 let go: seal, request, confirm, verify, drop; restore. Nothing leaves before we read its copy back."""
