"""Tools to develop, demonstrate and test with Tidemill: servers, the demo, an archiver's conformance, unit tests.

It is separate from the product, which finds it only by entry points.
"""
