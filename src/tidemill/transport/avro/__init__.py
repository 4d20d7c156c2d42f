"""Avro on the wire: framing, strict reading, and the codecs that the ports ask for."""
