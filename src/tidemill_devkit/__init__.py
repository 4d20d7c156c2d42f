"""What helps to develop, demonstrate and try Tidemill: real servers, the demo, an archiver's conformance.

It stands beside the product, which finds it by entry points alone.
"""
