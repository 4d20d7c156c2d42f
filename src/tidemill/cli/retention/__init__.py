"""`tidemill retention`: one file per kind of verb."""
