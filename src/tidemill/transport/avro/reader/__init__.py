"""Reading Avro: strictly, by functions made for a schema, and from schemas of other versions."""
