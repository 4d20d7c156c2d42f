"""6 archive: seal, request, confirm, verify, drop; restore. Nothing leaves before its copy is read back."""
