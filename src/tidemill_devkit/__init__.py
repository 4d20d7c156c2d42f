"""What helps to develop, demonstrate and try Tidemill: servers, the demo, an archiver's conformance, unit tests.

It stands beside the product, which finds it by entry points alone.
"""
