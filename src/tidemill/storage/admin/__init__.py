"""An operator's queries of the database, and changes of lanes."""
