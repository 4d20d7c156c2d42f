"""Reading Avro: strictly, by functions generated for a schema, and from schemas of other versions."""
