"""Avro on the wire: framing, strict reading, and the codecs of the ports."""
